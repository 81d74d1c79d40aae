"""The linear maps that a layer can be, as matrices: one for every weight set to one."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Features, structure
from wsljax.representation.universal.restricted import restricted

from ..specs import features_of, flat, spec_of, unflat


def slow_but_first(cases: Iterable) -> list:
    """Parameters of a test of which the first runs by default, the others with ``-m slow``."""
    first, *rest = cases
    return [first, *(pytest.param(case, marks=pytest.mark.slow) for case in rest)]


def mlp(*widths: int, bias: bool = True) -> symmetry.Spec:
    """A multilayer perceptron with fixed inputs and outputs."""
    leaves, last = {}, len(widths) - 2
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        a, b = "_" if k == 0 else f"h{k}", "_" if k == last else f"h{k + 1}"
        leaves[f"w{k}"] = ((n, m), f"{a} {b}")
        if bias:
            leaves[f"b{k}"] = ((m,), b)
    return spec_of(leaves)


def matrices(layer: Any, spec: symmetry.Spec) -> np.ndarray:
    """Of a layer with one channel that is linear in ``layer.weights``: ``(weights, out, in)``."""
    vector, rebuild = jax.flatten_util.ravel_pytree(layer.weights)
    size = len(flat(spec, features_of(spec, 1, jax.random.key(0))))

    def column(weights: jax.Array, e: jax.Array) -> jax.Array:
        own = eqx.tree_at(lambda t: t.weights, layer, rebuild(weights))
        out = own(Features.of(structure(spec), unflat(spec, e))).blocks()
        return jnp.concatenate([out[b.name].reshape(-1) for b in structure(spec)])

    matrix = jax.vmap(column, (None, 0), 1)
    found = quickly(jax.vmap(matrix, (0, None)))(jnp.eye(len(vector)), jnp.eye(size))
    return np.asarray(found)


def under(rule: Any, layer: Any, whole: np.ndarray) -> np.ndarray:
    """What a rule leaves of the matrices of a layer without one."""
    vector, rebuild = jax.flatten_util.ravel_pytree(layer.weights)
    each = jax.vmap(
        lambda v: jax.flatten_util.ravel_pytree(restricted(layer.basis, rule, rebuild(v)))[0]
    )(jnp.eye(len(vector)))
    return np.tensordot(np.asarray(each), whole, 1)


def rank(*families: np.ndarray) -> int:
    """Dimension of what all the matrices span."""
    return int(np.linalg.matrix_rank(np.concatenate([f.reshape(len(f), -1) for f in families])))


def missing_into(
    name: str, spec: symmetry.Spec, part: np.ndarray, whole: np.ndarray
) -> tuple[int, int]:
    """How many dimensions ``part`` lacks of the maps into the pieces of one block, and into the others."""
    own, at = [], 0
    for b in structure(spec):
        n = int(np.prod([spec.size_of(a) for a in b.labels]))
        own += list(range(at, at + n)) if b.name.startswith(name) else []
        at += n
    rest = [k for k in range(at) if k not in own]
    first, second = (rank(whole[:, rows]) - rank(part[:, rows]) for rows in (own, rest))
    return first, second
