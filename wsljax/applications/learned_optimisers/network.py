"""The network of a learned optimiser: what the whole network says of a weight, then a small map.

Zhou, Finn, Harrison, *Universal Neural Functionals*, 2024, section 4.2: equivariant layers tell each weight about
the others, and one small map, the same for all weights, makes the update of what a weight knows of
itself and what it was told. The map alone, without being told anything, is the optimiser of Metz et al.,
2022. Two numbers come out: a direction, and the logarithm of a magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.methods.registry import build_trunk
from ...representation.methods.trunk import Trunk
from ...symmetry.spec import Spec
from .inputs import SIZES, TIMES, number_of_inputs, time_inputs
from .shared_axes import fixed_as_units

Nominal = Literal["adam", "momentum", "none"]
NOMINAL = ("adam", "momentum", "none")

MAGNITUDE = 1.0
"""By how much the logarithm of the magnitude changes with its head."""


class OptimiserNetwork(eqx.Module):
    """From inputs of every weight to a step of every weight.

    Equivariant: exchanging units of the network being trained exchanges the same units of the step.
    All leaves are arrays, so it can be trained like any tree of them.

    Attributes:
        trunk, readouts: what tells weights about each other; None without a method.
        hidden: weights and biases of the small map's hidden layers.
        head: its last layer, ``(width, 2)``: zero at first.
        log_rate: logarithm of the learning rate.
        log_strength: logarithm of how much the network's own step counts beside the nominal one.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h"})
        >>> net = OptimiserNetwork(spec, channels=4, layers=1, key=jax.random.key(0))
        >>> inputs = {"w": jnp.ones((3, 5, 9)), "b": jnp.ones((5, 9))}
        >>> sizes = {"w": jnp.zeros(2), "b": jnp.zeros(2)}
        >>> {name: step.shape for name, step in net(inputs, sizes, jnp.int32(1)).items()}
        {'w': (3, 5), 'b': (5,)}
    """

    trunk: Trunk | None
    readouts: Any
    hidden: list[tuple[jax.Array, jax.Array]]
    head: jax.Array
    log_rate: jax.Array
    log_strength: jax.Array
    spec: Spec = eqx.field(static=True)
    shared: bool = eqx.field(static=True)
    decays: tuple[float, ...] = eqx.field(static=True)
    squares_decay: float = eqx.field(static=True)
    nominal: Nominal = eqx.field(static=True)
    nominal_decay: float = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int = 8,
        layers: int = 1,
        *,
        key: jax.Array,
        method: str | None = "universal",
        told: int = 4,
        width: int = 16,
        depth: int = 2,
        share_fixed: bool = True,
        decays: tuple[float, ...] = (0.5, 0.9, 0.99),
        squares_decay: float = 0.999,
        nominal: Nominal = "adam",
        nominal_decay: float = 0.9,
        rate: float = 1e-3,
        strength: float = 0.3,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw a network.

        Args:
            spec: annotation of the networks to be trained.
            channels, layers: of the trunk.
            key: of the initial weights.
            method: what the trunk is, one of :func:`~wsljax.representation.methods`; "pointwise" is the
                Deep Set baseline, which tells every weight the means of its block and of the network;
                None tells weights nothing.
            told: how many numbers the trunk tells each weight.
            width, depth: of the hidden layers of the small map, and how many of them.
            share_fixed: read fixed axes (inputs, outputs, kernel positions) as units; see
                :func:`.fixed_as_units`. Otherwise ``options`` of the method say what becomes of them.
            decays, squares_decay: of the momenta that are kept, and of the squares.
            nominal: the step to which the network adds: "adam", "momentum" or "none".
            nominal_decay: which of ``decays`` the nominal step uses.
            rate, strength: initial values of what is learned as ``log_rate`` and ``log_strength``.
            dtype: of the weights; everything is computed in the dtype of the inputs.
            options: of the method.

        Raises:
            ValueError: an unknown nominal step, a ``nominal_decay`` that is not among ``decays``, decays
                that are not in [0, 1), or sizes, a rate or a strength that are not positive.
        """
        if nominal not in NOMINAL:
            raise ValueError(f"`nominal` must be one of {NOMINAL}; got {nominal!r}")
        if nominal_decay not in decays:
            raise ValueError(f"`nominal_decay` must be among `decays`: {nominal_decay}, {decays}")
        for name, values in {"decays": decays, "squares_decay": (squares_decay,)}.items():
            if not all(0 <= d < 1 for d in values):
                raise ValueError(f"`{name}` must be at least 0 and below 1; got {values}")
        for name, value in {
            "told": told,
            "width": width,
            "rate": rate,
            "strength": strength,
        }.items():
            if value <= 0:
                raise ValueError(f"`{name}` must be positive; got {value}")
        self.spec, self.shared = spec, share_fixed
        self.decays, self.squares_decay = tuple(decays), squares_decay
        self.nominal, self.nominal_decay = nominal, nominal_decay
        key_trunk, key_readouts, key_map = jax.random.split(key, 3)
        c_in = number_of_inputs(decays)
        self.trunk = self.readouts = None
        if method is not None:
            read = fixed_as_units(spec) if share_fixed else spec
            trunk = build_trunk(
                method, read, channels, layers, key=key_trunk, c_in=c_in, dtype=dtype, **options
            )
            self.trunk = trunk
            self.readouts = eqx.filter_vmap(
                lambda key: trunk.make_readout(read, channels, key=key, dtype=dtype)
            )(jax.random.split(key_readouts, told))
        inputs = c_in + (0 if method is None else told) + len(TIMES) + SIZES
        self.hidden = []
        for k, n in zip(
            jax.random.split(key_map, depth), (inputs, *(width,) * depth), strict=False
        ):
            draw = jax.random.normal(k, (n, width), dtype)
            self.hidden.append((draw * jnp.asarray((2 / n) ** 0.5, dtype), jnp.zeros(width, dtype)))
        self.head = jnp.zeros((width if depth else inputs, 2), dtype)
        self.log_rate = jnp.log(jnp.asarray(rate, dtype))
        self.log_strength = jnp.log(jnp.asarray(strength, dtype))

    def __call__(
        self,
        inputs: Mapping[str, jax.Array],
        sizes: Mapping[str, jax.Array],
        count: jax.Array,
        spec: Spec | None = None,
    ) -> dict[str, jax.Array]:
        """The network's own step for each weight, before rate and strength.

        Args:
            inputs, sizes: ``{block: (*shape, channels)}`` and ``{block: (2,)}``, see
                :func:`.normalised`.
            count: number of the update, from 1.
            spec: annotation of the blocks, where it is another one (other widths).
        """
        told = self._told(inputs, spec)
        dtype = next(iter(inputs.values())).dtype
        time = time_inputs(count, dtype)
        rows, shapes = [], []
        for name, x in inputs.items():
            parts = [x] if told is None else [x, told[name]]
            constants = jnp.concatenate([time, sizes[name]])
            parts.append(jnp.broadcast_to(constants, (*x.shape[:-1], constants.shape[0])))
            joined = jnp.concatenate(parts, axis=-1)
            rows.append(joined.reshape(-1, joined.shape[-1]))
            shapes.append(x.shape[:-1])
        out = self._map(jnp.concatenate(rows))
        steps, start = {}, 0
        for name, shape, row in zip(inputs, shapes, rows, strict=True):
            steps[name] = out[start : start + row.shape[0]].reshape(shape)
            start += row.shape[0]
        return steps

    def _told(
        self, inputs: Mapping[str, jax.Array], spec: Spec | None
    ) -> dict[str, jax.Array] | None:
        """What the trunk tells each weight, ``{block: (*shape, told)}``."""
        if self.trunk is None:
            return None
        own, other = self.spec if spec is None else spec, spec
        blocks = dict(inputs)
        if self.shared:
            read = fixed_as_units(own)
            blocks = jax.vmap(read.blocks, -1, -1)(blocks)
            other = None if spec is None else read
        features = self.trunk(blocks, other)
        told = eqx.filter_vmap(
            lambda readout: readout(features, other), in_axes=(eqx.if_array(0),), out_axes=-1
        )(self.readouts)
        if self.shared:
            like = {name: x[..., 0] for name, x in inputs.items()}
            told = jax.vmap(lambda b: fixed_as_units(own).unblocks(b, like=like), -1, -1)(told)
        return told

    def _map(self, x: jax.Array) -> jax.Array:
        """The small map, ``(weights, inputs)`` to ``(weights,)``."""
        for w, b in self.hidden:
            x = jax.nn.relu(x @ w.astype(x.dtype) + b.astype(x.dtype))
        out = x @ self.head.astype(x.dtype)
        return out[:, 0] * jnp.exp(MAGNITUDE * jnp.clip(out[:, 1], -5.0, 5.0))
