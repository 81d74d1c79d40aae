"""Which trees in an optimiser's state are what: gradients, their squares, points, updates.

What is known about optax is written down here; :func:`register_roles` adds other states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

FIRST, SECOND, MAGNITUDE = "first", "second", "magnitude"
POINT, UPDATE, UPDATE_SECOND, UPDATE_MAGNITUDE = (
    "point",
    "update",
    "update second",
    "update magnitude",
)
KEEP = "keep"
ROLES = {
    FIRST: "linear in gradients (momentum): a covector",
    SECOND: "squares of gradients, entry by entry",
    MAGNITUDE: "absolute values of gradients, entry by entry",
    POINT: "params",
    UPDATE: "differences of params: a vector",
    UPDATE_SECOND: "squares of updates, entry by entry",
    UPDATE_MAGNITUDE: "absolute values of updates, entry by entry",
    KEEP: "stays as it is",
}
"""The roles a tree can have."""

_BY_CLASS: dict[tuple[str, str], str] = {}
_BY_FIELD: dict[str, str] = {
    "mu": FIRST, "nu": SECOND, "nu_max": SECOND, "trace": FIRST, "sum_of_squares": SECOND,
    "ema": FIRST, "acc_grads": FIRST, "grad_acc": FIRST, "previous_gradient": FIRST,
    "exp_avg": FIRST, "exp_avg_sq": SECOND,
}  # fmt: skip


def register_roles(state: type | None = None, /, **roles: str) -> None:
    """Say what the fields of an optimiser's state are, for :func:`carry_state`.

    Args:
        state: the class of the state (a named tuple or dataclass); ``None`` for any class.
        **roles: field name = one of ``ROLES``.

    Raises:
        ValueError: for an unknown role.

    Example:
        >>> from typing import NamedTuple
        >>> class Mine(NamedTuple):
        ...     velocity: dict
        >>> register_roles(Mine, velocity="first")
    """
    for field, role in roles.items():
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r} for {field!r}; known: {tuple(ROLES)}")
        if state is None:
            _BY_FIELD[field] = role
        else:
            _BY_CLASS[state.__name__, field] = role


for _name, _roles in {
    "ScaleByAdanState": {"m": FIRST, "v": FIRST, "n": SECOND, "g": FIRST},
    "ScaleByAdaDeltaState": {"e_g": SECOND, "e_x": UPDATE_SECOND},
    "ScaleByRpropState": {"step_sizes": UPDATE_MAGNITUDE, "prev_updates": FIRST},
    "ScaleByLBFGSState": {
        "params": POINT, "updates": FIRST, "diff_params_memory": UPDATE, "diff_updates_memory": FIRST,
    },
    "ScaleByDistanceOverGradientsState": {"init_params": POINT},
    "ScheduleFreeState": {"z": POINT},
}.items():  # fmt: skip
    for _field, _role in _roles.items():
        _BY_CLASS[_name, _field] = _role


@dataclass(frozen=True)
class Found:
    """A tree in a state that is shaped as params are: where it is, what it is called, and its role.

    ``extra`` is how many axes its leaves have in front (a memory of several). ``role`` is ``None`` where
    nothing is known.
    """

    index: int
    name: str
    role: str | None
    extra: int


def find_trees(
    state: Any, params: Any, roles: dict[str, str]
) -> tuple[list[Any], Any, list[Found]]:
    """The parts of a state, how to put them together again, and those among them shaped as params.

    Args:
        state: of any optimiser, however nested.
        params: the weights it is for.
        roles: by field name, these come before what is registered.
    """
    like = jax.tree.structure(params)
    shapes = [jnp.shape(x) for x in jax.tree.leaves(params)]

    def is_tree(x: Any) -> bool:
        return extra_axes(x, like, shapes) is not None

    parts, treedef = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_tree)
    found = []
    for i, (path, part) in enumerate(parts):
        extra = extra_axes(part, like, shapes)
        names = [k.name for k in path if isinstance(k, jax.tree_util.GetAttrKey)]
        lone = like == jax.tree.structure(
            0
        )  # where params are one array, any number looks like them
        if extra is None or (lone and not names) or "hyperparams" in names:
            continue
        field = names[-1] if names else jax.tree_util.keystr(path)
        owner = _owner(state, path)
        role = roles.get(field, _BY_CLASS.get((owner, field), _BY_FIELD.get(field)))
        if extra < 0 and role != KEEP:
            role = None
        found.append(Found(i, f"{owner}.{field}", role, max(extra, 0)))
    return [part for _, part in parts], treedef, found


def extra_axes(x: Any, like: Any, shapes: list[tuple[int, ...]]) -> int | None:
    """How many axes in front a tree has over params; -1 for other shapes, ``None`` for another tree.

    Leaves may be missing (``optax.MaskedNode``), but not all.
    """
    leaves, treedef = jax.tree.flatten(x, is_leaf=masked)
    if treedef != like:
        return None
    pairs = [(y, s) for y, s in zip(leaves, shapes, strict=True) if not masked(y)]
    if not pairs or not all(hasattr(y, "dtype") for y, _ in pairs):
        return None
    if not all(jnp.issubdtype(y.dtype, jnp.inexact) for y, _ in pairs):
        return None
    for extra in (0, 1):
        heads = {y.shape[:extra] for y, _ in pairs}
        if len(heads) == 1 and all(y.shape[extra:] == s for y, s in pairs):
            return extra
    return None if len(shapes) == 1 else -1


def masked(x: Any) -> bool:
    """Whether a leaf is missing from a tree, as under ``optax.masked``."""
    return isinstance(x, optax.MaskedNode)


def _owner(state: Any, path: Any) -> str:
    """The class that has the last named field on the way."""
    name = type(state).__name__
    last = max(
        (i for i, k in enumerate(path) if isinstance(k, jax.tree_util.GetAttrKey)), default=-1
    )
    for key in path[: last + 1]:
        name = type(state).__name__
        if isinstance(key, jax.tree_util.GetAttrKey):
            state = getattr(state, key.name)
        elif isinstance(key, (jax.tree_util.DictKey, jax.tree_util.FlattenedIndexKey)):
            state = state[key.key]
        else:
            state = state[key.idx]
    return name
