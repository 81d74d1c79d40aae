"""Learned teleports: a small network that proposes in one pass where gradient ascent would take many.

In the manner of "learning to learn" (Andrychowicz et al. 2016), as Zhao et al. 2024 (arXiv:2305.13404)
use it for teleports; theirs reads the flattened gradients of two layers and is tied to their widths. This
one reads features that every group has, entry by entry of the Lie algebra, so it runs on any spec or
action, and on other widths than it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from .action import Action, Group, action_of
from .objectives import gradient_norm
from .transport import covector_along

SETS = 4
FEATURES = 2 * SETS + 1 + 2


class TeleportNet(eqx.Module):
    """Proposes a direction of the Lie algebra from params and gradient: ``net(params, gradient) -> v``.

    For each entry of the algebra it sees how fast four sizes grow along it, both at first and relative to
    the fastest: the squared and the absolute sum of the params, and of the gradient. These need no
    data: gradients move as covectors. A shared perceptron turns them, with their means over the
    generator, into that entry of ``v``; entries are bounded, and so is the length, by ``radius``.

    It goes where :func:`teleport` takes a ``direction=``; every proposal is then held to the objective and
    to the loss as any other step is.

    Args:
        group: spec or action it moves along; static.
        kinds: kinds of generators of a spec.
        width, depth: of the perceptron.
        radius: longest proposal.
        key: for its initial weights.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> k = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k[0], (3, 4)), "b": jax.random.normal(k[1], (4, 2))}
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k[2], (8, 3)), kinds=("scale",))
        >>> net = TeleportNet(spec, key=jax.random.key(0))
        >>> [v.shape for v in jax.tree.leaves(net(p, p))]
        [(4,)]
    """

    body: eqx.nn.MLP
    group: Any = eqx.field(static=True)
    kinds: tuple[str, ...] | None = eqx.field(static=True)
    radius: float = eqx.field(static=True)

    def __init__(
        self,
        group: Group,
        *,
        kinds: Sequence[str] | None = None,
        width: int = 32,
        depth: int = 2,
        radius: float = 1.0,
        key: jax.Array,
    ):
        if not radius > 0:
            raise ValueError(f"`radius` must be positive, got {radius}")
        self.body = eqx.nn.MLP(FEATURES, 1, width, depth, activation=jax.nn.silu, key=key)
        self.group, self.radius = group, radius
        self.kinds = None if kinds is None else tuple(kinds)

    def __call__(self, params: Any, gradient: Any) -> Any:
        action = action_of(self.group, params, (), self.kinds)
        slopes = _slopes(action, params, gradient)
        v = [self._propose([s[i] for s in slopes]) for i in range(len(slopes[0]))]
        length = jnp.sqrt(sum(jnp.sum(x**2) for x in v))
        v = [x * (self.radius / jnp.maximum(length, self.radius)) for x in v]
        return jax.tree.unflatten(jax.tree.structure(action.zero), v)

    def _propose(self, slopes: list[jax.Array]) -> jax.Array:
        """One entry for each of a generator's, from the slopes there, arrays of one shape."""
        s = jnp.stack(slopes, -1)
        flat = s.reshape(-1, SETS)
        top = jnp.max(jnp.abs(flat), 0, keepdims=True)
        near = flat / jnp.where(top > 0, top, 1)
        log = jnp.sign(flat) * jnp.log1p(jnp.abs(flat)) / 4
        mean = jnp.broadcast_to(jnp.mean(jnp.abs(near[:, :2]), 0), (len(flat), 2))
        size = jnp.full((len(flat), 1), jnp.log(len(flat)) / 4, flat.dtype)
        features = jnp.concatenate([near, log, mean, size], -1)
        out = jax.vmap(self.body)(features.astype(jnp.float32))[:, 0]
        return (self.radius * jnp.tanh(out)).astype(s.dtype).reshape(s.shape[:-1])


def _slopes(action: Action, params: Any, gradient: Any) -> list[list[jax.Array]]:
    """Derivatives in the algebra of the four sizes, each relative to the size."""

    def sizes(v: Any) -> list[jax.Array]:
        moved = action.act(v, params), covector_along(action, v, params, gradient)
        kinds = ((tree, f) for tree in moved for f in (jnp.square, jnp.abs))
        totals = [jnp.sum(jnp.stack([jnp.sum(f(x)) for x in jax.tree.leaves(t)])) for t, f in kinds]
        return [jnp.log(jnp.maximum(t, jnp.finfo(t.dtype).tiny)) for t in totals]

    _, pull = jax.vjp(sizes, action.zero)
    one = [jnp.eye(SETS, dtype=x.dtype)[:, i] for i, x in enumerate(sizes(action.zero))]
    rows = jax.vmap(lambda *ct: pull(list(ct))[0])(*one)
    return [[x[k] for x in jax.tree.leaves(rows)] for k in range(SETS)]


def train_teleport_net(
    net: TeleportNet,
    loss: Callable[..., jax.Array],
    draw: Callable[[jax.Array], Any],
    *inputs: Any,
    objective: Callable[..., jax.Array] | None = None,
    minimise: bool = False,
    steps: int = 300,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    key: jax.Array,
) -> tuple[TeleportNet, jax.Array]:
    """Train a net to propose directions that better an objective, over draws of params.

    It ascends the mean of ``log objective(act(exp(v), p)) - log objective(p)``, ``v`` the proposal.

    Args:
        net: to start from.
        loss: ``loss(params, *inputs)``.
        draw: ``draw(key) -> params``, the params it is to be good at.
        *inputs: what else loss and objective take.
        objective: positive; by default ``gradient_norm(loss)``.
        minimise: as for :func:`teleport`.
        steps, batch_size, learning_rate: of Adam.
        key: for the draws.

    Returns:
        The trained net, and the mean gain (in logarithms) at each step.
    """
    goal = gradient_norm(loss) if objective is None else objective
    sign = -1 if minimise else 1
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    arrays, static = eqx.partition(net, eqx.is_inexact_array)

    def gain(arrays: Any, params: Any) -> jax.Array:
        net = eqx.combine(arrays, static)
        action = action_of(net.group, params, inputs, net.kinds)
        v = net(params, jax.grad(loss)(params, *inputs))
        new, old = goal(action.act(v, params), *inputs), goal(params, *inputs)
        return sign * (jnp.log(new) - jnp.log(old))

    def step(carry, key):
        arrays, state = carry
        batch = jax.vmap(draw)(jax.random.split(key, batch_size))
        mean = lambda a: -jnp.mean(jax.vmap(lambda p: gain(a, p))(batch))  # noqa: E731
        value, slope = jax.value_and_grad(mean)(arrays)
        updates, state = optimiser.update(slope, state, arrays)
        return (optax.apply_updates(arrays, updates), state), -value

    run = jax.jit(lambda a, keys: jax.lax.scan(step, (a, optimiser.init(a)), keys))
    (arrays, _), gains = run(arrays, jax.random.split(key, steps))
    return eqx.combine(arrays, static), gains
