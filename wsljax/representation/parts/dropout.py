"""Dropout that respects the exchange of units: exactly, or in distribution."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from ..blocks.features import Features

SHAPES = ("entries", "channels", "blocks")
"""What is kept or dropped together."""


class Dropout(eqx.Module):
    """Set features to zero at random, and scale what is left to keep the mean.

    With ``"channels"`` (one choice for each channel of each block) and ``"blocks"`` (whole blocks) the
    choice is the same for all units, so for a given key the layer is exactly equivariant. With
    ``"entries"`` every index tuple and channel has a choice of its own: equivariant in distribution,
    as exchanged units meet choices that are exchanged. Srivastava et al., *Dropout*, 2014; Tompson et
    al., 2015, for whole channels.

    Attributes:
        rate: the probability of zero.
        shape: one of :data:`SHAPES`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation.blocks.indices import structure
        >>> spec = symmetry.parse({"b": jnp.zeros(3)}, {"b": "h"})
        >>> x = Features.of(structure(spec), {"b": jnp.ones((3, 4))})
        >>> y = Dropout(0.5)(x, key=jax.random.key(1))["b"]
        >>> sorted(set(y.ravel().tolist())), bool((y == y[0]).all())
        ([0.0, 2.0], True)
        >>> bool((Dropout(0.5)(x)["b"] == 1).all())  # without a key nothing is dropped
        True
    """

    rate: float = eqx.field(static=True)
    shape: str = eqx.field(static=True)

    def __init__(self, rate: float, *, shape: str = "channels"):
        """
        Raises:
            ValueError: a rate outside ``[0, 1)``, or an unknown shape.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1); got {rate}")
        if shape not in SHAPES:
            raise ValueError(f"`shape` must be one of {SHAPES}; got {shape!r}")
        self.rate, self.shape = rate, shape

    def __call__(self, x: Features, *, key: jax.Array | None = None) -> Features:
        """Features of the same shapes and dtype; all of them as they are if there is no key.

        Args:
            x: features of one network; under ``jax.vmap`` give each network a key of its own.
            key: of the choice.
        """
        if key is None or self.rate == 0:
            return x
        keys = jax.random.split(key, len(x.structure))  # a block's choice is not its group's affair
        arrays = []
        for a, members in zip(x.arrays, x.groups, strict=True):
            size = {
                "entries": a.shape[1:],
                "channels": (*(1 for _ in a.shape[1:-1]), a.shape[-1]),
                "blocks": tuple(1 for _ in a.shape[1:]),
            }[self.shape]
            own = keys[jnp.asarray(members)]
            kept = jax.vmap(lambda k, size=size: jax.random.bernoulli(k, 1 - self.rate, size))(own)
            scale = jnp.asarray(1 / (1 - self.rate), a.dtype)
            arrays.append(jnp.where(kept, a * scale, jnp.zeros((), a.dtype)))
        return Features(tuple(arrays), x.structure, x.groups)
