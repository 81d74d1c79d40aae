"""``learned_optimiser``: an :class:`.OptimiserNetwork` as an optax transform."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ...symmetry.spec import Spec
from .inputs import (
    TINY,
    Accumulators,
    accumulate,
    empty_accumulators,
    normalised,
    unbiased,
    weight_inputs,
)
from .network import OptimiserNetwork


def learned_optimiser(
    net: OptimiserNetwork, *, spec: Spec | None = None
) -> optax.GradientTransformationExtraArgs:
    """Updates that a network makes of gradients, momenta, weights and time.

    ``update = -rate * (nominal + strength * network)``, after Zhou, Finn, Harrison, *Universal Neural
    Functionals*, 2024, section 4.2. The nominal step is Adam's or that of SGD with momentum, so training starts from
    something that works and the network learns what to change.

    Equivariant under permutations of the spec: training weights that have been acted on, from a state
    that has been acted on (a fresh one is), is acting on the trained weights.

    Args:
        net: the network; its arrays may be traced, so that one differentiates through what it does.
        spec: annotation of the weights, where it is another one than the network was drawn for: of
            the same structure with other widths, or, for methods that can, of any.

    Returns:
        A transformation whose state is a pytree of arrays (:class:`.Accumulators`) and whose ``update``
        needs ``params``. Updates have the dtype of the params; everything runs under ``jit``, ``vmap``,
        ``scan`` and ``grad``.

    Raises:
        ValueError: in ``update``, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> loss = lambda p, x: jnp.mean((fn(p, x) - x[:, :2]) ** 2)
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> p = {"a": jax.random.normal(keys[0], (3, 8)), "b": jax.random.normal(keys[1], (8, 2))}
        >>> x = jax.random.normal(keys[2], (32, 3))
        >>> net = OptimiserNetwork(symmetry.infer(fn, p, x), rate=0.1, key=keys[3])
        >>> optimiser = optax.chain(optax.clip_by_global_norm(1.0), learned_optimiser(net))
        >>> def step(carry, _):
        ...     p, state = carry
        ...     updates, state = optimiser.update(jax.grad(loss)(p, x), state, p)
        ...     return (optax.apply_updates(p, updates), state), loss(p, x)
        >>> _, losses = jax.lax.scan(step, (p, optimiser.init(p)), None, length=50)
        >>> bool(losses[-1] < 0.1 * losses[0])
        True
    """
    own = net.spec if spec is None else spec
    chosen = net.decays.index(net.nominal_decay)

    def init(params: Any) -> Accumulators:
        return empty_accumulators(params, net.decays)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Accumulators]:
        del extra
        if params is None:
            raise ValueError(
                "a learned optimiser looks at the weights: call `update(grads, state, params)`"
            )
        params = jax.tree.map(jnp.asarray, params)
        state = accumulate(state, updates, net.decays, net.squares_decay)
        momenta, squares = unbiased(state, net.decays, net.squares_decay)
        channels = weight_inputs(params, updates, momenta, squares)
        inputs, sizes = normalised(jax.vmap(own.blocks, -1, -1)(channels))
        made = own.unblocks(net(inputs, sizes, state.count, spec), like=params)

        def one(p: jax.Array, m: jax.Array, v: jax.Array, s: jax.Array) -> jax.Array:
            rate, strength = (jnp.exp(x).astype(m.dtype) for x in (net.log_rate, net.log_strength))
            m = m[..., chosen]
            nominal = {"adam": m * jax.lax.rsqrt(v + TINY), "momentum": m, "none": 0.0}[net.nominal]
            return (-rate * (nominal + strength * s.astype(m.dtype))).astype(p.dtype)

        return jax.tree.map(one, params, momenta, squares, made), state

    return optax.GradientTransformationExtraArgs(init, update)
