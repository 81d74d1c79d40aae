"""Canonical forms: one network for each orbit of the group of a spec."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import enable_x64
from wsljax.symmetry import Spec

from .minimal import fold_gains, shorten
from .order import sort_units
from .progress import Progress
from .rotations import turn
from .shifts import centre
from .signs import fix_signs


class Canonical(NamedTuple):
    """Attributes:
    params: the representative of the orbit.
    element: ``spec.act(element, given) == params``.
    """

    params: Any
    element: dict[str, jax.Array]


class NotCanonicalWarning(UserWarning):
    """Some part of a canonical form is not determined by the orbit."""


def canonicalise(params: Any, spec: Spec, *, unresolved: str = "warn") -> Canonical:
    """One representative of all networks that a spec's group makes of this one.

    In this order, each by a rule that what is still open does not influence: shifts by centring (free
    biases become zero); gains that others act through become one; scalings and general linear maps to the
    weights of smallest norm (balance; per head, from two QR decompositions and a small SVD, keeping the
    architecture; one-sided scalings to norm one); orthogonal maps to principal axes; signs by the largest odd
    statistic; units in the order of their colours, which take in all that surrounds them (colour
    refinement), nested units within each copy of their parents.

    **Ties.** Units tie when refinement gives them the same colour. Copies of each other (dead or
    duplicated units) may stand in any order: the weights are the same. Other ties (very regular networks)
    are broken by taking one first, and reported. Equal singular values or eigenvalues leave a basis open, a
    vanishing statistic a sign, and a bottleneck of deficient rank has no weights of smallest norm: reported
    likewise. For float32 weights, colours closer than some roundings may change places.

    The work is done in float64 on the host; the result has the dtypes of ``params``.

    Args:
        params: weights that match the spec; values, not tracers.
        spec: its group.
        unresolved: what to do about what could not be determined: ``"warn"``
            (:class:`NotCanonicalWarning`), ``"raise"``, or ``"ignore"``.

    Returns:
        :class:`Canonical`.

    Raises:
        ValueError: under jit, for params that do not match or are not finite, and, with
            ``unresolved="raise"``, for what is not determined.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=("permutation", "scale"))
        >>> moved = spec.act(spec.sample(jax.random.key(1)), p)
        >>> a, b = canonicalise(p, spec).params, canonicalise(moved, spec).params
        >>> bool(jnp.allclose(a["a"], b["a"], atol=1e-5))
        True
    """
    if unresolved not in ("warn", "raise", "ignore"):
        raise ValueError(f"`unresolved` must be 'warn', 'raise' or 'ignore', got {unresolved!r}")
    state = canonical_state(params, spec)
    if state.notes and unresolved != "ignore":
        text = "not determined by the orbit: " + "; ".join(state.notes)
        if unresolved == "raise":
            raise ValueError(text)
        warnings.warn(text, NotCanonicalWarning, stacklevel=2)
    element = element_for(params, state)
    return Canonical(spec.act(element, params), element)


def canonical_state(params: Any, spec: Spec) -> Progress:
    """The canonical form in float64, with its notes."""
    state = Progress(params, spec)
    centre(state)
    fold_gains(state)
    shorten(state)
    turn(state)
    still_open = fix_signs(state)
    sort_units(state, still_open)
    centre(state)  # flips may have carried into a bias
    return state


def element_for(params: Any, state: Progress) -> dict[str, jax.Array]:
    """The element in the float dtype of the weights."""
    with enable_x64():
        values = {n: np.asarray(x) for n, x in state.element.items()}
    widest = jnp.result_type(*jax.tree.leaves(params), jnp.float32)
    return {
        n: jnp.asarray(x, widest) if np.issubdtype(x.dtype, np.floating) else jnp.asarray(x)
        for n, x in values.items()
    }
