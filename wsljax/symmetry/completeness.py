"""``completeness``: how much of what may be changed do the generators of a spec explain?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import numpy as np

from .._compat import enable_x64
from .generators.probe import CannotProbe, Probe
from .spec import Spec

LARGEST = 6000
"""Parameters of the largest network that is looked at: the matrix is dense."""
SMALL, GAP = 1e-9, 1e-3


class Completeness(NamedTuple):
    """``explained`` dimensions of the ``nullity``: directions that change no output to first order."""

    explained: int
    nullity: int


def completeness(
    fn: Callable, params: Any, spec: Spec, *inputs: Any, draws: int | None = None
) -> Completeness:
    """The dimension of the orbit of a spec's group, beside that of all that leaves the function alone.

    The nullity is that of the Jacobian of the outputs with respect to the parameters, at the given
    parameters and over many random inputs, in float64: it knows nothing of how generators are found.
    Explained is the rank of the directions in which the continuous generators move these parameters, so
    directions that two generators share, or that leave the parameters where they are, count once or not
    at all.

    What depends on the parameters at hand is no group, and enlarges the nullity: dead units, and ReLU units
    that are always on; what a layer adds outside of all that later layers read (a linear layer in front of
    a narrower one), and what it would read from where nothing arrives (behind a narrower one); data with
    little in them, such as the one constant query of a class token.

    Args:
        fn: the function ``fn(params, *inputs)``.
        params: where to look; for a statement about the architecture, a generic point.
        spec: with the generators in question.
        *inputs: examples of the inputs; others are drawn around them.
        draws: number of inputs; by default as many as give three outputs for each parameter.

    Raises:
        ValueError: if params do not match the spec, are too many, or the function cannot be evaluated in
            float64.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> x = jax.random.normal(k3, (8, 3))
        >>> completeness(fn, p, symmetry.infer(fn, p, x, kinds=None), x)
        Completeness(explained=4, nullity=4)
    """
    spec.flatten(params)
    size = sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)
    if size > LARGEST:
        raise ValueError(
            f"{size} parameters are too many for a dense Jacobian (at most {LARGEST}); take a narrower "
            "network of the same architecture"
        )
    try:
        probe = Probe(fn, spec, params, inputs)
        jacobian = _jacobian(probe, draws)
        tangents = _tangents(probe, spec)
    except CannotProbe as e:
        raise ValueError(f"`fn` cannot be differentiated in float64: {e}") from e
    sizes = np.linalg.svd(jacobian, compute_uv=False)
    nullity = size - _rank(sizes)
    if not tangents.size:
        return Completeness(0, nullity)
    lengths = np.linalg.norm(tangents, axis=1)
    tangents = tangents[lengths > 1e-12 * np.max(lengths)]
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    return Completeness(_rank(np.linalg.svd(tangents, compute_uv=False)), nullity)


def _rank(sizes: np.ndarray) -> int:
    """Numerical rank: cut at the first wide gap among what may be rounding, if there is one."""
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return 0
    ratios = sizes[1:] / sizes[:-1]
    below = np.flatnonzero((sizes[1:] < SMALL * sizes[0]) & (ratios < GAP))
    if len(below):
        return int(below[0]) + 1
    return int(np.sum(sizes > SMALL * 1e-4 * sizes[0]))


def _jacobian(probe: Probe, draws: int | None) -> np.ndarray:
    """Rows: outputs over many inputs, at the given parameters; columns: all entries of all leaves."""
    leaves = probe.given
    y = probe.draw(0)[2]
    size = sum(x.size for x in leaves)
    n = draws or int(np.ceil(3 * size / len(y))) + 2
    directions = [
        {name: _one(index.shape, k)}
        for name, (_, index) in probe.places.items()
        for k in range(index.size)
    ]
    rows = []
    for k in range(n):
        ins = probe.inputs_at(k)
        rows.append(probe.push(directions, leaves, ins).T)
    return np.concatenate(rows)


def _one(shape: tuple[int, ...], k: int) -> np.ndarray:
    out = np.zeros(shape)
    out.reshape(-1)[k] = 1.0
    return out


def _tangents(probe: Probe, spec: Spec) -> np.ndarray:
    """Rows: directions of the Lie algebra at the given parameters."""
    with enable_x64():
        zero = {n: np.asarray(x) for n, x in spec.algebra().items()}
    if not zero:
        return np.zeros((0, 0))

    def moved(v, leaves):
        out = spec.act(spec.exp(v), probe.treedef.unflatten(leaves))
        return jax.numpy.concatenate([x.ravel() for x in jax.tree.leaves(out)])

    def all_of(v, leaves):
        _, push = jax.linearize(lambda w: moved(w, leaves), v)
        flat, unravel = jax.flatten_util.ravel_pytree(v)
        return jax.lax.map(lambda e: push(unravel(e)), jax.numpy.eye(flat.size))

    return np.asarray(probe.program("tangents", all_of, zero, probe.given))
