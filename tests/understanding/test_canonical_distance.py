"""The quotient distance: zero on orbits, symmetric, no larger than what it bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.understanding.canonical import quotient_alignment, quotient_distance

from .test_canonical import far, ready

QUICK = ["tanh", "attention"]
LONG = [pytest.param(n, marks=pytest.mark.slow) for n in ("relu", "transformer", "stack", "radial")]


def noisy(p, key, size):
    leaves, treedef = jax.tree.flatten(p)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [x + size * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
    )


@pytest.mark.parametrize("name", QUICK + LONG)
def test_a_distance_on_orbits(name, key):
    _, p, _, spec = ready(name)
    act, draw = jax.jit(spec.act), jax.jit(spec.sample)
    k1, k2, k3 = jax.random.split(key, 3)
    assert quotient_distance(p, act(draw(k1), p), spec) < 1e-7
    q = noisy(p, k2, 0.05)
    ab = quotient_alignment(p, q, spec)
    ba = quotient_distance(q, p, spec)
    assert ab.distance == pytest.approx(ba, rel=1e-6)
    assert ab.distance <= ab.canonical_distance
    # neither network's place in its orbit matters
    moved = quotient_distance(act(draw(k3), p), act(draw(k1), q), spec)
    assert moved == pytest.approx(ab.distance, rel=1e-5)
    # not further than the aligned weights are apart, and these belong to the same orbits
    gap = np.sqrt(
        sum(
            float(jnp.sum((x - y) ** 2))
            for x, y in zip(jax.tree.leaves(ab.first), jax.tree.leaves(ab.second), strict=True)
        )
    )
    assert gap == pytest.approx(ab.distance, rel=1e-9)
    assert quotient_distance(ab.first, p, spec) < 1e-7
    assert quotient_distance(ab.second, q, spec) < 1e-7
    assert ab.distance > 1e-3


def test_triangles(key):
    _, p, _, spec = ready("tanh")
    a, b, c = (noisy(p, jax.random.fold_in(key, k), 0.3) for k in range(3))
    d = lambda x, y: quotient_distance(x, y, spec)  # noqa: E731
    assert d(a, c) <= 1.05 * (d(a, b) + d(b, c))


def test_the_minimum_for_one_layer(key):
    """Against all permutations and signs of four units."""
    import itertools

    from wsljax import symmetry

    fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]  # noqa: E731
    p = {"a": jax.random.normal(key, (3, 4)), "b": jax.random.normal(jax.random.key(1), (4, 2))}
    q = noisy(p, jax.random.key(2), 1.0)
    spec = symmetry.infer(fn, p, jax.random.normal(key, (9, 3)), kinds=("permutation", "sign"))
    best = min(
        float(jnp.sum((p["a"][:, np.array(o)] * e - q["a"]) ** 2))
        + float(jnp.sum((p["b"][np.array(o)] * e[:, None] - q["b"]) ** 2))
        for o in itertools.permutations(range(4))
        for e in map(np.asarray, itertools.product([1, -1], repeat=4))
    )
    assert quotient_distance(p, q, spec) == pytest.approx(np.sqrt(best), rel=1e-9)


def test_alignment_helps_where_forms_jump(key):
    """Noise changes the order of close units: forms are far apart, aligned networks are not."""
    _, p, _, spec = ready("relu")
    results = [
        quotient_alignment(p, noisy(p, jax.random.fold_in(key, k), 0.1), spec) for k in range(4)
    ]
    assert all(r.distance <= r.canonical_distance for r in results)
    assert min(r.distance / r.canonical_distance for r in results) < 0.7
    assert quotient_distance(p, noisy(p, key, 0.1), spec, sweeps=0) >= quotient_distance(
        p, noisy(p, key, 0.1), spec
    )
    with pytest.raises(ValueError, match="sweeps"):
        quotient_distance(p, p, spec, sweeps=-1)
    assert far(results[0].second, results[0].second) == 0
