"""Optimiser state carried along when params move, by the action that goes with theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ...symmetry import Spec
from . import roles as known
from .roles import Found, find_trees, masked
from .transport import Transport, by_element

PROBES = 64


def carry_state(
    state: Any,
    params: Any,
    spec: Spec | Transport,
    g: Mapping[str, jax.Array] | None = None,
    *,
    second: str = "squares",
    roles: Mapping[str, str] | None = None,
    probes: int = PROBES,
    key: jax.Array | None = None,
) -> Any:
    """The state that an optimiser would have, had it come to the moved params.

    Every tree in ``state`` that is shaped as ``params`` is looked up by the class and the field that
    hold it (see :func:`register_roles`) and moved by its own rule:

    - *first moments* are covectors: ``m' = (d act(g^-1) / dp)^T m`` at the new point. Exact for every
      generator and every permutation, through gains and carried biases included.
    - *second moments* have an exact rule where the move takes each coordinate to one coordinate:
      permutations, signs, positive scalings (``nu / s^2`` where the gradient goes as ``g / s``). Where it
      mixes coordinates (``Linear``, ``Orthogonal``) **there is no exact rule**: the diagonal of a matrix
      of second moments does not determine that of the moved one. ``second`` says what to do then.

    Adam itself is equivariant under permutations and signs only: after another move its state is right,
    and its next step is still not the moved step, as its update does not scale as the params do.

    Args:
        state: of any optax optimiser, however nested (``chain``, ``masked``, ``multi_transform``,
            ``inject_hyperparams``, ``MultiSteps``, …). A leaf that a masked part does not see counts as
            zero.
        params: the weights before the move.
        spec: a spec, with the element ``g`` that moves the params; or a :class:`Transport`.
        second: ``"squares"``: the squared Jacobian, ``nu'_i = sum_j (d p_j / d p'_i)^2 nu_j``, which is
            the exact rule where there is one, and elsewhere that for uncorrelated entries; it is measured
            with random signs, exact where there is one term and otherwise right up to a relative
            ``sqrt(2 / probes)``. ``"keep"``: second moments stay as they are.
        roles: ``{field: role}`` that comes before what is registered; see ``ROLES``. Two cases in optax
            need it: the ``nu`` of ``adamax`` is a ``"magnitude"``, and the ``trace`` of
            ``rmsprop(momentum=…)`` holds rescaled updates, for which no rule is exact (``"keep"``).
        probes: random signs for second moments.
        key: for these; by default the same each time.

    Raises:
        ValueError: for a tree shaped as params whose role is not known, an unknown role or ``second``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> p = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> spec = symmetry.parse(p, {"a": "_ h", "b": "h _"})
        >>> adam = optax.adam(1e-3)
        >>> _, state = adam.update({"a": jnp.eye(3, 4), "b": jnp.ones((4, 2))}, adam.init(p), p)
        >>> moved = carry_state(state, p, spec, {"h": jnp.array([1, 0, 2, 3])})
        >>> print(moved[0].mu["a"].round(1))
        [[0.  0.1 0.  0. ]
         [0.1 0.  0.  0. ]
         [0.  0.  0.1 0. ]]
    """
    if second not in ("squares", "keep"):
        raise ValueError(f"`second` must be 'squares' or 'keep', got {second!r}")
    for field, role in (roles or {}).items():
        if role not in known.ROLES:
            raise ValueError(f"unknown role {role!r} for {field!r}; known: {tuple(known.ROLES)}")
    move = by_element(spec, g or {}, params) if isinstance(spec, Spec) else spec
    parts, treedef, found = find_trees(state, params, dict(roles or {}))
    key = jax.random.key(0) if key is None else key
    for tree in found:
        if tree.role is None:
            raise ValueError(
                f"the optimiser's state has {tree.name}, shaped as params, and its role is not known: "
                f"pass `roles={{{tree.name.split('.')[-1]!r}: role}}` or call `register_roles`, with a role "
                f"among {tuple(known.ROLES)}; 'keep' leaves it as it is"
            )
        rule = _rule(tree, move, second, probes, key)
        parts[tree.index] = _apply(rule, parts[tree.index], params, tree.extra)
    return jax.tree.unflatten(treedef, parts)


def _rule(tree: Found, move: Transport, second: str, probes: int, key: jax.Array):
    if tree.role == known.FIRST:
        return move.covector
    if tree.role == known.UPDATE:
        return move.vector
    if tree.role == known.POINT:
        return move.point
    if tree.role == known.KEEP or second == "keep":
        return lambda x: x
    linear = (
        move.vector if tree.role in (known.UPDATE_SECOND, known.UPDATE_MAGNITUDE) else move.covector
    )
    if tree.role in (known.SECOND, known.UPDATE_SECOND):
        return lambda x: _squares(linear, x, probes, key)

    def magnitudes(x: Any) -> Any:
        square = _squares(linear, jax.tree.map(jnp.square, x), probes, key)
        return jax.tree.map(jnp.sqrt, square)

    return magnitudes


def _squares(linear: Any, squares: Any, probes: int, key: jax.Array) -> Any:
    """The squared matrix of a linear map, applied to non-negative entries: the mean over random signs
    ``z`` of ``linear(sqrt(x) z)^2``, exact where each output has one term."""
    leaves, treedef = jax.tree.flatten(squares)

    def one(total: Any, key: jax.Array):
        keys = jax.random.split(key, len(leaves))
        signed = [
            jnp.sqrt(jnp.maximum(x, 0)) * jax.random.rademacher(k, x.shape, x.dtype)
            for k, x in zip(keys, leaves, strict=True)
        ]
        new = linear(treedef.unflatten(signed))
        return jax.tree.map(lambda t, y: t + y.astype(t.dtype) ** 2 / probes, total, new), None

    return jax.lax.scan(one, jax.tree.map(jnp.zeros_like, squares), jax.random.split(key, probes))[
        0
    ]


def _apply(rule: Any, tree: Any, params: Any, extra: int) -> Any:
    """A rule for whole trees on one that may miss leaves, or have axes in front; dtypes are kept."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=masked)
    present = next(x for x in leaves if not masked(x))
    front = present.shape[:extra]
    full = [
        jnp.zeros(front + jnp.shape(p), jnp.asarray(p).dtype)
        if masked(x)
        else x.astype(jnp.result_type(x, jnp.asarray(p).dtype))
        for x, p in zip(leaves, jax.tree.leaves(params), strict=True)
    ]
    full = jax.tree.unflatten(jax.tree.structure(params), full)
    moved = jax.vmap(rule)(full) if extra else rule(full)
    out = [
        x if masked(x) else y.astype(x.dtype)
        for x, y in zip(leaves, jax.tree.leaves(moved), strict=True)
    ]
    return jax.tree.unflatten(treedef, out)
