"""``teleport``: move params within their orbit until an objective is better; the loss stays what it is.

Zhao, Dehmamy, Walters, Yu, "Symmetry Teleportation for Accelerated Optimization", NeurIPS 2022
(arXiv:2205.10637), algorithm 1, with exact group elements, for any continuous group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._compat import is_tracer, key_path_str
from ...symmetry import Spec
from .action import Action, Group, action_of, composed
from .objectives import GradientObjective, gradient_norm
from .transport import covector_along


class Report(NamedTuple):
    """What a teleport did: scalars, all measured.

    Attributes:
        objective_before, objective_after: the objective at the old and the new params.
        loss_before, loss_after: the loss there.
        loss_change: their difference, relative to ``loss_before``.
        accepted: number of steps taken.
        refused: number of trials turned down because the loss would have changed by more than the
            tolerance.
    """

    objective_before: jax.Array
    objective_after: jax.Array
    loss_before: jax.Array
    loss_after: jax.Array
    loss_change: jax.Array
    accepted: jax.Array
    refused: jax.Array


class Teleported(NamedTuple):
    """Where a teleport led, and how.

    Attributes:
        params: the new weights.
        element: for a spec, the group element that leads to them: ``spec.act(element, old) = params`` up
            to rounding. ``None`` for other actions.
        path: the direction of each step, stacked; zero for a step that was not taken.
        report: see :class:`Report`.
    """

    params: Any
    element: dict[str, jax.Array] | None
    path: Any
    report: Report


class _Trial(NamedTuple):
    """A step that is tried: its direction, the params and gradient there, the value, whether it will do."""

    v: Any
    there: Any
    value: jax.Array
    done: jax.Array
    size: jax.Array
    count: jax.Array
    refused: jax.Array


def teleport(
    loss: Callable[..., jax.Array],
    params: Any,
    group: Group,
    *inputs: Any,
    objective: Callable[..., jax.Array] | None = None,
    minimise: bool = False,
    kinds: Sequence[str] | None = None,
    steps: int = 10,
    radius: float = 0.1,
    trust: str = "all",
    tolerance: float | None = None,
    halvings: int = 8,
    direction: Callable[[Any, Any], Any] | None = None,
) -> Teleported:
    """Move ``params`` along a group to better an objective, the loss unchanged.

    Each step takes the gradient of ``objective(act(exp(v), params))`` in the Lie algebra at ``v = 0``,
    scales it to the trust radius, and halves it until the objective gets better and the loss stays
    within the tolerance; a step for which no trial will do is not taken. If the loss at the end is not
    within the tolerance after all, params stay where they were. Everything is traceable; a call
    outside of ``jit`` compiles anew, so wrap it where there are many.

    Args:
        loss: ``loss(params, *inputs) -> scalar``, unchanged by the group.
        params: the weights.
        group: a :class:`~wsljax.symmetry.Spec` with continuous generators, an :class:`Action`, or a
            function ``(params, *inputs) -> Action``.
        *inputs: what else loss and objective take.
        objective: ``objective(params, *inputs) -> scalar``; by default ``gradient_norm(loss)``. Along a
            spec, objectives of the gradient alone (:class:`GradientObjective`) of this very loss cost one
            gradient in all: the gradient is moved as the covector it is.
        minimise: look for the least instead of the greatest.
        kinds: kinds of generators to move along, as in ``("scale",)``.
        steps: number of steps.
        radius: length of the longest step, in the Lie algebra: a scaling by ``exp(0.1)`` has length 0.1.
            Objectives such as the gradient norm have no maximum on a scaling group, so it is
            ``steps * radius`` that bounds how far one goes.
        trust: ``"all"``: the radius is for all generators together; ``"each"``: for each of them.
        tolerance: largest relative change of the loss; by default 1e-5 for float32, 1e-10 for float64.
        halvings: how often a step is halved before it is given up.
        direction: ``direction(params, gradient) -> v``, in place of the gradient of the objective, such
            as a trained :class:`TeleportNet`; it is cut to the radius, and held to the same rules.

    Returns:
        :class:`Teleported`.

    Raises:
        ValueError: if the group has no continuous part, an option is out of range, or, where values are
            known (not under ``jit``), a generator changes the loss to first order: it is named.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> loss = lambda p, x, y: jnp.mean((fn(p, x) - y) ** 2)
        >>> k = jax.random.split(jax.random.key(0), 4)
        >>> p = {"a": jax.random.normal(k[0], (3, 4)), "b": jax.random.normal(k[1], (4, 2))}
        >>> x, y = jax.random.normal(k[2], (8, 3)), jax.random.normal(k[3], (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> new, element, _, report = teleport(loss, p, spec, x, y)
        >>> bool(report.objective_after > 1.5 * report.objective_before)
        True
        >>> bool(report.loss_change < 1e-5)
        True
    """
    if steps < 1 or halvings < 0 or not radius > 0:
        raise ValueError(
            f"`steps` must be positive, `halvings` not negative and `radius` positive; got {steps}, "
            f"{halvings}, {radius}"
        )
    if trust not in ("all", "each"):
        raise ValueError(f"`trust` must be 'all' or 'each', got {trust!r}")
    action = action_of(group, params, inputs, kinds)
    goal = gradient_norm(loss) if objective is None else objective
    moves_gradient = (
        isinstance(group, Spec) and isinstance(goal, GradientObjective) and goal.loss is loss
    )
    sign = -1 if minimise else 1
    if not any(is_tracer(x) for x in jax.tree.leaves((jnp.zeros(()), params, inputs))):
        _check_generators(loss, params, action, inputs)

    def run(params: Any, inputs: Sequence[Any]) -> Teleported:
        start = loss(params, *inputs)
        bound = default_tolerance(params, start) if tolerance is None else tolerance

        def go(v: Any, p: Any, gradient: Any):
            """The value in the direction ``v``, with the params and the gradient there."""
            if moves_gradient:
                gradient = covector_along(action, v, p, gradient)
                return sign * goal.measure(gradient), (action.act(v, p), gradient)
            q = action.act(v, p)
            return sign * goal(q, *inputs), (q, gradient)

        def step(carry, _):
            here, best, size, refused = carry
            if direction:
                way = jax.tree.map(lambda x: x / radius, direction(*here))
                way = _within(way, trust, full=False)
            else:
                way = _within(jax.grad(go, has_aux=True)(action.zero, *here)[0], trust, full=True)

            def again(s):
                return ~s.done & (s.count <= halvings)

            def halve(s):
                v = jax.tree.map(lambda x: (s.size * x).astype(x.dtype), way)
                value, there = go(v, *here)
                there = jax.lax.optimization_barrier(
                    there
                )  # the loss of the params as they are stored
                better = value > best
                same = relative(loss(there[0], *inputs), start) <= bound
                done = better & same
                size = jnp.where(done, s.size, s.size / 2)
                return _Trial(
                    v,
                    _like(there, here),
                    value,
                    done,
                    size,
                    s.count + 1,
                    s.refused + (better & ~same),
                )

            no = jnp.zeros((), bool)
            found = jax.lax.while_loop(
                again, halve, _Trial(way, here, best, no, size, jnp.zeros((), jnp.int32), refused)
            )
            v = jax.tree.map(lambda x: jnp.where(found.done, x, jnp.zeros_like(x)), found.v)
            p, gradient = jax.tree.map(lambda a, b: jnp.where(found.done, a, b), found.there, here)
            if direction and not moves_gradient:
                gradient = jax.grad(loss)(p, *inputs)
            best = jnp.where(found.done, found.value, best)
            size = jnp.minimum(2 * found.size, jnp.asarray(radius, size.dtype))
            return ((p, gradient), best, size, found.refused), (v, found.done)

        needs_gradient = moves_gradient or direction is not None
        gradient = jax.grad(loss)(params, *inputs) if needs_gradient else ()
        before = goal.measure(gradient) if moves_gradient else goal(params, *inputs)
        float_ = jnp.result_type(*jax.tree.leaves(action.zero))
        size, none = jnp.asarray(radius, float_), jnp.zeros((), jnp.int32)
        first = ((params, gradient), sign * before, size, none)
        ((new, _), _, _, refused), (path, taken) = jax.lax.scan(step, first, length=steps)
        end = loss(new, *inputs)
        kept = relative(end, start) <= bound  # two ways to evaluate one loss may round differently
        new = jax.tree.map(lambda a, b: jnp.where(kept, a, b), new, params)
        path = jax.tree.map(lambda x: jnp.where(kept, x, jnp.zeros_like(x)), path)
        end = jnp.where(kept, end, start)
        report = Report(
            before,
            goal(new, *inputs),
            start,
            end,
            relative(end, start),
            jnp.where(kept, jnp.sum(taken, dtype=refused.dtype), 0),
            jnp.where(kept, refused, refused + 1),
        )
        element = composed(group, path) if isinstance(group, Spec) else None
        return Teleported(new, element, path, report)

    return eqx.filter_jit(run)(jax.tree.map(jnp.asarray, params), inputs)


def default_tolerance(params: Any, loss: jax.Array) -> float:
    """The relative change of a loss that is put down to rounding."""
    worst = max(
        float(jnp.finfo(jnp.asarray(x).dtype).eps) for x in (*jax.tree.leaves(params), loss)
    )
    return 1e-10 if worst < 1e-12 else 1e-5 if worst < 1e-6 else 4 * worst


def relative(new: jax.Array, old: jax.Array) -> jax.Array:
    """``|new - old| / |old|``; not a number where ``new`` is none."""
    return jnp.abs(new - old) / jnp.maximum(jnp.abs(old), jnp.finfo(old.dtype).tiny)


def _within(way: Any, trust: str, full: bool) -> Any:
    """A direction of length one (or, if not ``full``, of at most one): of all parts, or of each."""

    def cut(tree: Any) -> Any:
        # the largest entry first: squares of large gradients are not finite in float32
        top = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(tree) if x.size]))
        safe = jnp.where(top > 0, top, 1)
        length = safe * jnp.sqrt(sum(jnp.sum((x / safe) ** 2) for x in jax.tree.leaves(tree)))
        bound = jnp.where(top > 0, length, 1) if full else jnp.maximum(length, 1)
        return jax.tree.map(lambda x: x / bound.astype(x.dtype), tree)

    return cut(way) if trust == "all" else jax.tree.map(cut, way)


def _like(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)


def _check_generators(loss: Callable, params: Any, action: Action, inputs: Sequence[Any]) -> None:
    """Raise if the loss moves along the group, to first order."""

    def look(params: Any, inputs: Sequence[Any]):
        slope = jax.grad(lambda v: loss(action.act(v, params), *inputs))(action.zero)
        return slope, jax.value_and_grad(loss)(params, *inputs)

    slope, (value, gradient) = eqx.filter_jit(look)(params, inputs)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    size = jnp.abs(value) + sum(jnp.sum(jnp.abs(p * g)) for p, g in pairs)
    if not bool(jnp.isfinite(size)):
        raise ValueError(f"the loss ({value}) or its gradient is not finite at these params")
    bound = max(1e-3, 100 * default_tolerance(params, value)) * float(size)
    for path, x in jax.tree_util.tree_flatten_with_path(slope)[0]:
        worst = float(jnp.max(jnp.abs(x), initial=0.0))
        if not worst <= bound:
            raise ValueError(
                f"{key_path_str(path) or 'the action'!r} changes the loss: its derivative along the group "
                f"is {worst:.3g}, with the loss at {float(value):.3g}. Is the loss a function of what the "
                "spec was inferred from, with nothing else that depends on params (weight decay)? Or "
                "leave this kind of generators out with `kinds=`, and see `symmetry.check`."
            )
