"""MAGEP-NFN: products along paths, in raw coordinates and in networks."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax.representation.blocks.features import Features
from wsljax.representation.blocks.indices import structure
from wsljax.representation.methods.magep import PathProducts
from wsljax.representation.scaling.pieces import pieces

from . import scaled_networks as nets
from .test_monomial import apart

CHANNELS = 2


def slow(names, kept):
    return [pytest.param(n, marks=() if n in kept else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", slow(nets.SPECS, {"mixed"}))
def test_networks_are_equivariant(name):
    nets.check("magep", nets.SPECS[name], layers=1 if name == "mixed" else 2)


@pytest.mark.parametrize("name", slow(nets.NETWORKS, {}))
def test_with_inferred_generators(name):
    nets.check("magep", nets.inferred(name))


def features(spec, blocks) -> Features:
    return Features.of(structure(pieces(spec).spec), blocks)


def raw(spec, seed: int) -> dict[str, jax.Array]:
    """Random weights with a channel axis: for a spec without fixed axes these are features."""
    random = np.random.default_rng(seed)
    return {
        leaf.path: jnp.asarray(random.normal(size=(*leaf.shape, CHANNELS))) for leaf in spec.leaves
    }


def layer_of(spec, **options) -> PathProducts:
    return PathProducts(
        spec, CHANNELS, key=quick_random.key(0), normalise=False, dtype=jnp.float64, **options
    )


def without_invariants(layer: PathProducts) -> PathProducts:
    """The layer without products of paths and invariants: these see every weight."""
    roles = [role for role, w in layer.weights.items() if "times" in w]
    return eqx.tree_at(
        lambda n: [n.weights[role]["times"] for role in roles],
        layer,
        [jnp.zeros_like(layer.weights[role]["times"]) for role in roles],
    )


@pytest.mark.parametrize("kind", ["scale", "sign"])
def test_a_layer_is_equivariant_in_raw_coordinates(kind):
    """No norm, no canonical weights: the polynomial itself moves as the weights do."""
    spec = apart((2, 3, 4, 2), kind)
    layer = layer_of(spec)
    act = jax.vmap(lambda p, g: spec.act(g, p), in_axes=(-1, None), out_axes=-1)
    g = spec.sample(jax.random.key(1), nets.KINDS)

    def run(x):
        return layer(features(spec, x)).blocks()

    @quickly
    def program(x, other):
        y = run(x)
        return y, run(other), run(act(x, g)), act(y, g)

    y, far, moved, expected = program(raw(spec, 0), raw(spec, 1))
    for name in y:
        spread = nets.distance(y[name], far[name])
        assert spread > 1e-3, name
        assert nets.distance(moved[name], expected[name]) < nets.KEPT * spread, name
    assert nets.distance(y, expected) > 1e-2


def test_the_degree():
    """Without norms, outputs along a ray are polynomials, of degrees that can be counted by hand.

    With ``degree=2`` the streams of an MLP of three matrices hold at most: to the first units one
    weight, to the second two, from the second one, from the first two; invariants have three.
    """
    spec = apart((2, 3, 4, 2), "scale")
    x = raw(spec, 0)
    points = np.cos(np.pi * (np.arange(12) + 0.5) / 12)

    def at(layer, s):
        return layer(features(spec, {name: s * a for name, a in x.items()})).blocks()

    for degree, most in (
        (1, {"w1": 1, "b1": 3, "w2_0": 3, "b2_0": 2}),
        (2, {"w1": 4, "b0": 4, "b1": 5, "w2_0": 4, "b2_0": 3}),
    ):
        layer = layer_of(spec, degree=degree)
        out = quickly(lambda t, layer=layer: jax.lax.map(lambda s: at(layer, s), t))(points)
        for name, top in most.items():
            flat = np.asarray(out[name]).reshape(12, -1)
            fit = np.polynomial.polynomial.polyfit(points, flat, 11)
            size = np.abs(fit).max(axis=1) / np.abs(fit).max()
            assert size[top] > 1e-6, name
            assert size[top + 1 :].max() < 1e-9, name


def test_the_terms_are_those_of_paths():
    """What each output depends on: of ReLU MLPs, by the table of stable polynomial terms.

    Terms of ``b(1)`` are itself and ``W(1)``: no path goes to the first units through later weights. Of
    ``W(2)`` there are all: itself and products of paths from the inputs with paths to the outputs. An
    output bias sees the invariants, in which every weight takes part.
    """
    spec = apart((1, 3, 4, 1), "scale")
    layer = without_invariants(layer_of(spec, degree=3))
    x = raw(spec, 0)
    slope = quickly(jax.jacrev(lambda x: layer(features(spec, x)).blocks()))(x)
    seen = {
        (out, name): float(jnp.abs(d).max()) > 1e-9
        for out, row in slope.items()
        for name, d in row.items()
    }
    leaves = sorted(x)
    assert leaves == ["b0", "b1", "b2_0", "w0_0", "w1", "w2_0"]
    assert {n for n in leaves if seen["b0", n]} == {"b0", "w0_0"}
    assert {n for n in leaves if seen["b1", n]} == {"b0", "b1", "w0_0", "w1"}
    assert {n for n in leaves if seen["w2_0", n]} == {"w2_0"}
    assert {n for n in leaves if seen["w1", n]} == {"b0", "b1", "w0_0", "w1", "w2_0"}
    assert {n for n in leaves if seen["b2_0", n]} == set(leaves)


def test_paths_are_products_of_weights():
    """One channel, weights one: the stream of the last units is what a linear network computes."""
    spec = apart((1, 3, 4, 1), "scale")
    layer = PathProducts(
        spec, 1, key=quick_random.key(0), degree=3, normalise=False, dtype=jnp.float64
    )
    ones = without_invariants(jax.tree.map(jnp.ones_like, layer))
    x = {name: a[..., :1] for name, a in raw(spec, 0).items()}
    own = {name: a[..., 0] for name, a in x.items()}
    first = own["w0_0"] + own["b0"]
    second = own["b1"] + jnp.einsum("i,ij->j", first, own["w1"]) / 3
    back = jnp.einsum("ij,j->i", own["w1"], own["w2_0"]) / 4
    y = quickly(lambda x: ones(features(spec, x)).blocks())(x)
    np.testing.assert_allclose(y["b1"][:, 0], own["b1"] + second, rtol=1e-12)
    np.testing.assert_allclose(y["w2_0"][:, 0], 2 * own["w2_0"], rtol=1e-12)
    expected = own["w1"] + first[:, None] * 0 + back[:, None] * second[None, :]
    np.testing.assert_allclose(y["w1"][..., 0], expected, rtol=1e-12)
    for a, b in itertools.pairwise(("b0", "w0_0")):
        np.testing.assert_allclose(y[a][:, 0] - own[a], y[b][:, 0] - own[b], rtol=1e-12)


def test_degree_must_be_positive():
    with pytest.raises(ValueError, match="`degree` must be positive"):
        layer_of(nets.SPECS["relu"], degree=0)
