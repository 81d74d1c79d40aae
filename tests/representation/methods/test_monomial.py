"""Monomial-NFN: the linear maps are all there are, and no more; networks of them are equivariant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import count_terms
from wsljax.representation.blocks.features import Features
from wsljax.representation.blocks.indices import structure
from wsljax.representation.scaling.linear import MonomialLinear, count_charged_terms
from wsljax.representation.scaling.pieces import pieces
from wsljax.symmetry import Scale, Sign, Term

from . import scaled_networks as nets

DIMENSIONS = {
    (2, 3, 4, 2): {"permutation": 114, "scale": 19, "sign": 23},
    (2, 3, 2, 3, 2): {"permutation": 164, "scale": 21, "sign": 25},
    (2, 3, 2): {"permutation": 74, "scale": 17, "sign": 29},
}
"""Of the spaces of equivariant linear maps on the weights of an MLP, inputs and outputs fixed."""


def apart(sizes: tuple[int, ...], kind: str) -> symmetry.Spec:
    """The spec of an MLP with one leaf for each coordinate of its fixed axes; generators of one kind."""
    leaves, terms = {}, {}
    depth = len(sizes) - 1
    for k in range(1, depth):
        terms[k] = []
    for k in range(depth):
        inputs = [None] if k else range(sizes[0])
        outputs = [None] if k < depth - 1 else range(sizes[-1])
        for i in inputs:
            for o in outputs:
                name = f"w{k}" + "".join(f"_{c}" for c in (i, o) if c is not None)
                axes = [(f"h{k}", sizes[k])] * (i is None) + [(f"h{k + 1}", sizes[k + 1])] * (
                    o is None
                )
                leaves[name] = (tuple(n for _, n in axes), " ".join(a for a, _ in axes))
                if i is None:
                    terms[k].append(Term(name, 0, -1))
                if o is None:
                    terms[k + 1].append(Term(name, len(axes) - 1))
        for o in outputs:
            name = f"b{k}" + ("" if o is None else f"_{o}")
            leaves[name] = ((sizes[k + 1],), f"h{k + 1}") if o is None else ((), "")
            if o is None:
                terms[k + 1].append(Term(name, 0))
    made = {"scale": Scale, "sign": Sign}.get(kind)
    gens = [made(f"g{k}", f"h{k}", tuple(t), sizes[k]) for k, t in terms.items()] if made else []
    return nets.spec_of(leaves, *gens)


def as_features(spec, vector):
    """A vector of all weights as features of one channel."""
    found, at = {}, 0
    for b in structure(pieces(spec).spec):
        shape = [spec.size_of(a) for a in b.labels]
        n = int(np.prod(shape))
        found[b.name] = vector[at : at + n].reshape(*shape, 1)
        at += n
    return Features.of(structure(pieces(spec).spec), found)


def as_vector(x) -> jax.Array:
    return jnp.concatenate([a.reshape(-1) for a in x.blocks().values()])


def size_of(spec) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)


def matrices(spec, draws: int, seed: int = 0) -> np.ndarray:
    """Random layers as matrices on vectors of all weights, ``(draws, n, n)``."""
    n = size_of(spec)
    layer = MonomialLinear(spec, 1, 1, key=jax.random.key(0), use_bias=False, dtype=jnp.float64)
    random = np.random.default_rng(seed)
    stacked = jax.tree.map(lambda w: jnp.asarray(random.normal(size=(draws, *w.shape))), layer)

    def of(layer):
        return jax.vmap(lambda v: as_vector(layer(as_features(spec, v))))(jnp.eye(n)).T

    return np.asarray(quickly(lambda s: jax.lax.map(of, s))(stacked))


def rank(matrix: np.ndarray) -> int:
    s = np.linalg.svd(matrix, compute_uv=False)
    gap = s[s > 1e-9 * s[0]]
    return len(gap)


@pytest.mark.parametrize(
    "sizes, kind",
    [
        pytest.param(
            s, k, marks=() if s[1:3] == (3, 4) and k != "permutation" else pytest.mark.slow
        )
        for s, found in DIMENSIONS.items()
        for k in found
    ],
)
def test_the_rank_is_the_dimension_of_all_maps(sizes, kind):
    spec = apart(sizes, kind)
    expected = DIMENSIONS[sizes][kind]
    assert count_charged_terms(spec) == expected
    found = matrices(spec, expected + 6)
    assert rank(found.reshape(len(found), -1)) == expected


@pytest.mark.parametrize("kind", ["scale", "sign"])
def test_the_dimension_by_brute_force_and_the_maps_commute(kind):
    """The matrices that commute with random elements, counted by linear algebra alone."""
    sizes = (2, 3, 2)
    spec = apart(sizes, kind)
    n = size_of(spec)
    names = [b.name for b in structure(pieces(spec).spec)]

    def action(g):
        def move(v):
            x = as_features(spec, v).blocks()
            moved = spec.act(g, {k: a[..., 0] for k, a in x.items()})
            return jnp.concatenate([moved[k].reshape(-1) for k in names])

        return jax.vmap(move)(jnp.eye(n)).T

    gs = [np.asarray(quickly(action)(spec.sample(jax.random.key(k), nets.KINDS))) for k in range(6)]
    eye = np.eye(n)
    equations = sum(
        (m := np.kron(g, eye) - np.kron(eye, g.T)).T @ m for g in gs
    )  # of vectorised rows: g M - M g
    free = int(np.sum(np.linalg.eigvalsh(equations) < 1e-9))
    assert free == DIMENSIONS[sizes][kind]
    for m in matrices(spec, 2):
        for g in gs:
            assert np.abs(g @ m - m @ g).max() < 1e-10 * np.abs(m).max()
    (m,) = matrices(apart(sizes, "permutation"), 1)
    assert max(np.abs(g @ m - m @ g).max() for g in gs) > 0.1


@pytest.mark.parametrize("leaves, sign, scale", [("h h", 6, 3), ("h h h", 30, 7)])
def test_repeated_units(leaves, sign, scale):
    """One block of repeated units: partitions in which what is tied has an even or zero net exponent."""
    k = len(leaves.split())
    like = {"w": ((6,) * k, leaves)}
    spec = nets.spec_of(like, Sign("e", "h", tuple(Term("w", a) for a in range(k)), 6))
    even = count_charged_terms(spec)
    assert even < count_terms(nets.spec_of(like))
    signs = (1, -1, 1)[:k]
    spec = nets.spec_of(like, Scale("s", "h", tuple(Term("w", a, signs[a]) for a in range(k)), 6))
    zero = count_charged_terms(spec)
    assert (even, zero) == (_partitions(k, (1,) * k, 2), _partitions(k, signs, None))


def _partitions(k: int, exponents, modulo: int | None) -> int:
    """Set partitions of the indices of input and output whose parts have exponents that agree."""
    every = (*exponents, *(-e for e in exponents))

    def count(i: int, sums: list[int]) -> int:
        if i == 2 * k:
            return int(all((s % modulo if modulo else s) == 0 for s in sums))
        total = count(i + 1, [*sums, every[i]])
        for n in range(len(sums)):
            total += count(i + 1, [*sums[:n], sums[n] + every[i], *sums[n + 1 :]])
        return total

    return count(0, [])


def slow(names, kept):
    return [pytest.param(n, marks=() if n in kept else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", slow(nets.SPECS, {"mixed", "recurrent"}))
def test_networks_are_equivariant(name):
    nets.check("monomial", nets.SPECS[name])


@pytest.mark.parametrize("name", slow(nets.NETWORKS, {"relu"}))
def test_with_inferred_generators(name):
    nets.check("monomial", nets.inferred(name))


def test_an_activation_that_is_not_odd_fails_the_check():
    spec = nets.SPECS["tanh"]
    invariance, equivariance, _ = nets.measure("monomial", spec, layers=1, odd=jax.nn.gelu)
    assert min(invariance) > 1e-2 and min(equivariance) > 1e-2


def test_layers_of_all_maps_fail_the_check():
    """Maps of the permutation group alone, between the features of pieces, do not commute with signs."""
    import equinox as eqx

    spec = nets.SPECS["tanh"]

    def every(trunk):
        full = MonomialLinear(nets.SPECS["plain"], 3, 3, key=jax.random.key(0), dtype=jnp.float64)
        full = jax.tree.map(lambda a: a[None], full)
        return eqx.tree_at(lambda t: t.layers.linear, trunk, full)

    invariance, _, _ = nets.measure("monomial", spec, layers=1, change=every)
    assert min(invariance) > 1e-2


def test_without_generators_all_maps_are_left():
    assert count_charged_terms(nets.SPECS["plain"], fixed=False) == count_terms(nets.SPECS["plain"])
    one = MonomialLinear(nets.SPECS["relu"], 2, 2, key=quick_random.key(0))
    every = MonomialLinear(nets.SPECS["plain"], 2, 2, key=quick_random.key(0))
    sizes = [sum(x.size for x in jax.tree.leaves(m.weights)) for m in (one, every)]
    assert sizes[0] < sizes[1] / 3
