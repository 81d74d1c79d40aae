"""``teleporting``: any optax optimiser, with teleports now and then that its state goes along with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ...symmetry import Spec
from .action import Group, action_of
from .ascend import Report, teleport
from .carry import PROBES, carry_state
from .transport import along_path, by_element


class TeleportingState(NamedTuple):
    """State of :func:`teleporting`.

    Attributes:
        count: number of updates so far.
        inner: state of the optimiser within.
        report: of the last teleport (zeros before the first).
    """

    count: jax.Array
    inner: Any
    report: Report


def teleporting(
    inner: optax.GradientTransformation,
    loss: Callable[..., jax.Array],
    group: Group,
    *,
    every: int | None = None,
    at: Sequence[int] = (),
    second: str = "squares",
    roles: Mapping[str, str] | None = None,
    probes: int = PROBES,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that teleports, and goes on from there with its state moved likewise.

    Before update number ``every``, ``2 * every``, … (and those in ``at``, counted from 0) the params
    move by :func:`teleport`; the gradient at hand and the moments move along as covectors, so that no
    gradient has to be taken again, and ``inner`` makes its step at the new point. What is returned is the
    jump plus that step.

    It holds ``inner`` rather than standing before it: a transform in a chain sees the updates and the
    params, but not the state of the transforms after it, so one at the head can move the params and
    never the momentum. Whatever is to treat the gradients first goes before it in a chain, whatever
    treats the steps (learning rates, weight decay) belongs into ``inner``: what comes *after* it would
    change the jump, too.

    Args:
        inner: the optimiser, often a chain itself.
        loss: ``loss(params, *inputs)``, as for :func:`teleport`.
        group: spec, action, or function ``(params, *inputs) -> Action``. What is not a spec moves gradients
            and moments by ``act(-v, .)``, so as exactly as that undoes ``act(v, .)``.
        every: how many updates lie between two teleports.
        at: numbers of single updates.
        second: what happens to second moments where they have no exact rule: ``"squares"`` or
            ``"keep"``, see :func:`carry_state`; ``"restart"``: ``inner`` starts anew at the new point, all
            of its state, as the published code does.
        roles, probes: see :func:`carry_state`.
        **options: of :func:`teleport`: ``objective``, ``kinds``, ``steps``, ``radius``, …

    Returns:
        A transformation whose ``update`` takes ``params`` and, where ``loss`` takes more than these,
        ``inputs=(x, y, …)``. Under ``vmap`` the teleport is computed at every step.

    Raises:
        ValueError: if it would never teleport, for unknown options, or, in ``update``, without
            ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> loss = lambda p, x, y: jnp.mean((fn(p, x) - y) ** 2)
        >>> k = jax.random.split(jax.random.key(0), 4)
        >>> p = {"a": jax.random.normal(k[0], (3, 4)), "b": jax.random.normal(k[1], (4, 2))}
        >>> x, y = jax.random.normal(k[2], (8, 3)), jax.random.normal(k[3], (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> tx = teleporting(optax.sgd(1e-3, momentum=0.9), loss, spec, every=5, steps=3)
        >>> tx = optax.chain(optax.clip_by_global_norm(10.0), tx)
        >>> @jax.jit
        ... def step(p, state):
        ...     updates, state = tx.update(jax.grad(loss)(p, x, y), state, p, inputs=(x, y))
        ...     return optax.apply_updates(p, updates), state
        >>> state = tx.init(p)
        >>> for _ in range(6):
        ...     p, state = step(p, state)
        >>> bool(state[1].report.loss_change < 1e-5), int(state[1].report.accepted)
        (True, 3)
    """
    if every is not None and every < 1:
        raise ValueError(f"`every` must be positive, got {every}")
    if every is None and not len(at):
        raise ValueError("say when to teleport: `every=100`, or `at=(5, 50)`")
    if second not in ("squares", "keep", "restart"):
        raise ValueError(f"`second` must be 'squares', 'keep' or 'restart', got {second!r}")
    known = {
        p.name for p in inspect.signature(teleport).parameters.values() if p.kind is p.KEYWORD_ONLY
    }
    if unknown := set(options) - known:
        raise ValueError(
            f"unknown options {sorted(unknown)}; those of `teleport` are {sorted(known)}"
        )
    inner = optax.with_extra_args_support(inner)

    def jump(params: Any, inner_state: Any, gradient: Any, inputs: tuple, count: jax.Array):
        moved, element, path, report = teleport(loss, params, group, *inputs, **options)
        if isinstance(group, Spec):
            move = by_element(group, element or {}, params)
        else:
            move = along_path(action_of(group, params, inputs), path, params)
        gradient = jax.tree.map(
            lambda new, old: new.astype(old.dtype), move.covector(gradient), gradient
        )
        if second == "restart":
            return moved, inner.init(moved), gradient, report
        key = jax.random.fold_in(jax.random.key(0), count)
        carried = carry_state(
            inner_state, params, move, second=second, roles=roles, probes=probes, key=key
        )
        return moved, carried, gradient, report

    def init(params: Any) -> TeleportingState:
        return TeleportingState(jnp.zeros((), jnp.int32), inner.init(params), _no_report(params))

    def update(updates: Any, state: Any, params: Any = None, *, inputs: tuple = (), **extra):
        if params is None:
            raise ValueError(
                "a teleport starts from the params: call `update(grads, state, params, …)`"
            )
        params = jax.tree.map(jnp.asarray, params)
        due = jnp.isin(state.count, jnp.asarray(at, jnp.int32)) if len(at) else jnp.asarray(False)
        if every is not None:
            due |= (state.count > 0) & (state.count % every == 0)

        def go():
            return _like(jump(params, state.inner, updates, inputs, state.count), stay())

        def stay():
            return params, state.inner, updates, state.report

        here, inner_state, gradient, report = jax.lax.cond(due, go, stay)
        step, inner_state = inner.update(gradient, inner_state, here, inputs=inputs, **extra)
        total = jax.tree.map(lambda u, q, p: u + (q - p).astype(u.dtype), step, here, params)
        return total, TeleportingState(state.count + 1, inner_state, report)

    return optax.GradientTransformationExtraArgs(init, update)


def _no_report(params: Any) -> Report:
    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    count = jnp.zeros((), jnp.int32)
    return Report(zero, zero, zero, zero, zero, count, count)


def _like(new: Any, old: Any) -> Any:
    """Both branches of a condition must agree in dtypes."""
    return jax.tree.map(lambda a, b: jnp.asarray(a).astype(jnp.asarray(b).dtype), new, old)
