"""Denoisers that commute with every exchange of units: trunks of metanetworks, told level and condition.

Whatever turns weights into features and features into weights can denoise: any method of
:func:`~wsljax.representation.methods`. Level and condition are the same for all units, so they may enter
anywhere: here as scales and shifts of the channels behind every layer (:mod:`.film`), or, where a trunk has
no stack of layers, as constant channels beside the weights. With a denoiser that commutes with the
exchange of units, and noise that is exchangeable, so is the distribution of what is generated.

Networks beside the weights (the checkpoint to start from: Peebles et al., *Learning to Learn with Generative
Models of Neural Network Checkpoints*, 2022) are further channels of every weight; they move with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.methods.registry import build_trunk
from ...representation.methods.trunk import Trunk
from ...symmetry.spec import Spec
from .film import has_layers, may_shift, with_modulation
from .levels import LevelEmbedding, Linear, Signal
from .trees import dtype_of, inputs_of


class EquivariantDenoiser(eqx.Module):
    """A denoiser on trees of weights, for one network; exchanging units of the weights (and of the
    networks beside them) exchanges the same units of what comes out.

    Zero at first. Per block, ``gate * readout(trunk(x)) + sum(passes * inputs)``, where gates and passes are
    linear in what the level and the condition say: what a block is at one level it need not be at
    another, and a weight that passes through is not squeezed through channels.

    Attributes:
        signal: level and condition to a vector.
        trunk, readout: of the method.
        film: from the vector to scales and shifts of all layers; None where they are channels.
        channels: from the vector to constant channels; None where layers are modulated.
        gates: from the vector to one gate, and one pass for each input, of every block.

    Example:
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> net = EquivariantDenoiser(spec, channels=8, layers=2, key=jax.random.key(0))
        >>> jax.tree.map(jnp.shape, net(params, jnp.float32(0.5)))
        {'b': (5,), 'w': (3, 5)}
    """

    signal: Signal
    trunk: Trunk
    readout: Any
    film: Linear | None
    channels: Linear | None
    gates: Linear
    spec: Spec = eqx.field(static=True)
    beside: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    method: str = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        method: str = "universal",
        told: int | None = None,
        beside: int = 0,
        width: int = 128,
        constants: int = 8,
        embed: LevelEmbedding | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw a denoiser.

        Args:
            spec: annotation of what comes in: of a :class:`~..spaces.WeightSpace`, its ``spec``.
            channels, layers: of the trunk.
            key: of the initial weights.
            method: what the trunk is, one of :func:`~wsljax.representation.methods`.
            told: how many numbers the condition has; None where there is none.
            beside: how many networks stand beside the weights.
            width: of the vector that level and condition become.
            constants: how many constant channels a trunk without a stack of layers gets.
            embed: of the level; see :class:`.LevelEmbedding`.
            activation: a function of single numbers.
            scales: typical size of the weights of each block; by default 1, as normalised weights have.
            dtype: of the weights; everything is computed in the dtype of the networks that come in.
            options: of the method.

        Raises:
            ValueError: no such method, or a negative number of networks beside.
        """
        if beside < 0:
            raise ValueError(f"`beside` is a number of networks; got {beside}")
        keys = jax.random.split(key, 4)
        self.spec, self.beside, self.layers, self.method = spec, beside, layers, method
        self.signal = Signal(width, told, key=keys[0], embed=embed, dtype=dtype)

        def build(c_in: int) -> Trunk:
            return build_trunk(
                method,
                spec,
                channels,
                layers,
                key=keys[1],
                c_in=c_in,
                scales=scales,
                activation=activation,
                dtype=dtype,
                **options,
            )

        self.trunk = build(1 + beside)
        self.film = self.channels = None
        if has_layers(self.trunk):
            count = 2 if may_shift(self.trunk) else 1
            self.film = Linear(width, layers * count * channels, dtype=dtype)
        else:
            self.trunk = build(1 + beside + constants)
            self.channels = Linear(width, constants, key=keys[3], dtype=dtype)
        self.readout = self.trunk.make_readout(
            spec, channels, key=keys[2], scales=scales, dtype=dtype
        )
        self.gates = Linear(width, len(spec.layout) * (2 + beside), dtype=dtype)

    def __call__(
        self,
        x: Any,
        level: jax.Array,
        told: jax.Array | None = None,
        beside: Sequence[Any] | None = None,
        spec: Spec | None = None,
    ) -> Any:
        """A tree like ``x``.

        Args:
            x: the weights of one network: a tree of floating arrays, for which the spec is meant.
            level: how noisy they are, a number.
            told: the condition, ``(told,)``, or None.
            beside: other networks, trees like ``x``.
            spec: annotation of the weights, where it is another one of the same structure (other widths).
        """
        own = self.spec if spec is None else spec
        trees = inputs_of(x, beside, self.beside)
        dtype = dtype_of(x)
        signal = self.signal(level, told).astype(dtype)
        cut = [own.blocks(jax.tree.map(lambda a: a.astype(dtype), tree)) for tree in trees]
        blocks = {name: jnp.stack([b[name] for b in cut], axis=-1) for name in cut[0]}
        found = self.readout(self._features(blocks, signal, spec), spec)
        gates = self.gates(signal).reshape(-1, 2 + self.beside)
        out = {}
        for block, gate in zip(own.layout, gates, strict=True):
            passed = blocks[block.name] @ gate[1:]
            out[block.name] = gate[0] * found[block.name] + passed
        tree = own.unblocks(out, like=x)
        return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, x)

    def _features(self, blocks: dict[str, jax.Array], signal: jax.Array, spec: Spec | None) -> Any:
        if self.film is not None:
            film = self.film(signal).reshape(self.layers, 2 if may_shift(self.trunk) else 1, -1)
            shift = film[:, 1] if may_shift(self.trunk) else None
            return with_modulation(self.trunk, film[:, 0], shift)(blocks, spec)
        assert self.channels is not None
        told = self.channels(signal)
        wider = {
            name: jnp.concatenate([b, jnp.broadcast_to(told, (*b.shape[:-1], len(told)))], -1)
            for name, b in blocks.items()
        }
        return self.trunk(wider, spec)
