"""What a teleport moves along: the continuous group of a spec, or any action a user writes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry import Spec


@dataclass(frozen=True, eq=False)
class Action:
    """A group that moves params, given near its neutral element.

    Attributes:
        act: ``act(v, params)``, the params moved by the element in the direction ``v`` of the Lie
            algebra. Differentiable in both; ``act(zero, params)`` and ``act(-v, act(v, params))`` are
            to be ``params``.
        zero: the zero of the Lie algebra, any tree of floating-point arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> circle = Action(
        ...     lambda v, p: jnp.array([[jnp.cos(v), -jnp.sin(v)], [jnp.sin(v), jnp.cos(v)]]) @ p,
        ...     jnp.zeros(()),
        ... )
        >>> bool(jnp.allclose(circle.act(jnp.pi / 2, jnp.array([1.0, 0.0])), jnp.array([0.0, 1.0]), atol=1e-6))
        True
    """

    act: Callable[[Any, Any], Any]
    zero: Any


Group = Spec | Action | Callable[..., Action]
"""What may be passed where a group is asked for: a spec, an action, or a function ``(params, *inputs)``
that gives an action (one that holds on the given inputs only)."""


def action_of(
    group: Group, params: Any, inputs: Sequence[Any] = (), kinds: Sequence[str] | None = None
) -> Action:
    """The action of a group on params.

    Args:
        group: a spec, an action, or a function that gives one.
        params: the weights it is to move.
        inputs: passed on to a function that gives an action.
        kinds: of a spec, the kinds of generators to move along; all by default.

    Raises:
        ValueError: if the spec has no continuous generators of these kinds, or ``kinds`` is given with
            what is not a spec.
        TypeError: if ``group`` is none of the three.
    """
    if isinstance(group, Spec):
        return _of_spec(group, params, kinds)
    if kinds is not None:
        raise ValueError("`kinds` chooses among the generators of a spec; leave it out here")
    if not isinstance(group, Action):
        if not callable(group):
            raise TypeError(
                f"expected a Spec, an Action or a function that gives one, got {type(group).__name__}"
            )
        group = group(params, *inputs)
        if not isinstance(group, Action):
            raise TypeError(
                f"the function given as group returned {type(group).__name__}, not an Action"
            )
    if not any(jnp.size(x) for x in jax.tree.leaves(group.zero)):
        raise ValueError("the action's `zero` has no entries: there is no direction to move in")
    return group


def _of_spec(spec: Spec, params: Any, kinds: Sequence[str] | None) -> Action:
    spec.flatten(params)
    zero = {name: x for name, x in spec.algebra(kinds).items() if x.size}
    if not zero:
        found = sorted({gen.kind for gen in spec.generators}) or ["none beyond permutations"]
        asked = "" if kinds is None else f" of the kinds {tuple(kinds)}"
        skipped = (
            f" What was left out in inference: {'; '.join(spec.skipped)}." if spec.skipped else ""
        )
        raise ValueError(
            f"this spec has no continuous generators{asked}; its generators: {', '.join(found)}. Infer it "
            "from values with `symmetry.infer(fn, params, *inputs, kinds=None)`. Smooth activations such "
            "as tanh or sigmoid have no continuous group at all: for these there is `teleport_on_batch`, "
            f"or pass an `Action` of your own.{skipped}"
        )
    return Action(lambda v, p: spec.act(spec.exp(v), p), zero)


def composed(spec: Spec, path: Any) -> dict[str, jax.Array]:
    """The one element of the group that acts as all steps of ``path`` (stacked directions) in turn."""
    first = spec.exp(jax.tree.map(lambda x: jnp.zeros_like(x[0]), path))

    def one(g, v):
        product = spec.compose(spec.exp(v), g)
        return {name: product[name].astype(x.dtype) for name, x in g.items()}, None

    return jax.lax.scan(one, first, path)[0]
