"""Deep weight space networks: complete with means, equivariant with any pool, factored."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from wsljax.representation import Features, Metanetwork, UniversalLinear, methods, structure
from wsljax.representation.methods.dws import FAMILIES, DwsLinear, dws_maps, dws_trunk
from wsljax.representation.methods.ends import recut

from ..specs import SPECS, act, features_of, generators, moves, params_of, spec_of
from ..test_program import deep, equations
from .spans import matrices, missing_into, mlp, rank, slow_but_first, under

WIDTHS = {(2, 3, 4, 2): (114, 111), (2, 3, 2, 3, 2): (164, 160)}


@pytest.mark.parametrize("widths", slow_but_first(WIDTHS), ids=str)
def test_complete_and_the_published_layer_misses_maps_to_the_last_kernel_alone(widths):
    spec = mlp(*widths)
    own = recut(spec, "fixed")
    layer = DwsLinear(own, 1, 1, key=jax.random.key(0), dtype=jnp.float64)
    complete = matrices(layer, own)
    published = under(dws_maps(spec, published=True), layer, complete)
    assert (rank(complete), rank(published)) == WIDTHS[widths]
    missing = (len(widths) - 1) * (widths[-1] - 1)
    assert missing_into(f"w{len(widths) - 2}", own, published, complete) == (missing, 0)
    for p in moves(own):
        assert np.abs(complete[:, p][:, :, p] - complete).max() < 1e-12


def test_two_layers_are_enough():
    own = recut(mlp(2, 3, 2), "fixed")
    layer = DwsLinear(own, 1, 1, key=jax.random.key(0), dtype=jnp.float64)
    assert rank(matrices(layer, own)) == 74


@pytest.mark.parametrize("name", slow_but_first(["rnn", "twice nested"]))
def test_with_means_it_is_the_universal_layer(name):
    spec = spec_of(SPECS[name])
    layer = DwsLinear(spec, 2, 3, key=jax.random.key(0), dtype=jnp.float64)
    other = UniversalLinear(spec, 2, 3, key=jax.random.key(1), dtype=jnp.float64)
    other = eqx.tree_at(lambda t: (t.weights, t.bias), other, (layer.weights, layer.bias))
    x = Features.of(structure(spec), features_of(spec, 2, jax.random.key(2)))
    for a, b in zip(*map(jax.tree.leaves, quickly(lambda x: (layer(x), other(x)))(x)), strict=True):
        assert jnp.abs(a - b).max() < 1e-12


@pytest.mark.parametrize("pool", slow_but_first(["attention", "max", "sum"]))
@pytest.mark.parametrize(
    "name",
    [
        "twice nested",
        *(pytest.param(n, marks=pytest.mark.slow) for n in SPECS if n != "twice nested"),
    ],
)
def test_every_pool_is_equivariant_and_only_sums_are_linear(pool, name):
    spec = spec_of(SPECS[name])
    layer = DwsLinear(spec, 2, 2, key=jax.random.key(0), pool=pool, dtype=jnp.float64)
    run = quickly(lambda blocks: layer(Features.of(structure(spec), blocks)).blocks())
    x, other = (features_of(spec, 2, jax.random.key(k)) for k in (1, 2))
    y, far = run(x), run(other)
    spread = max(float(jnp.abs(y[n] - far[n]).max()) for n in y)
    for g in [*list(generators(spec))[:2], spec.sample(jax.random.key(3))]:
        moved = run(act(spec, g, x))
        for n, expected in act(spec, g, y).items():
            assert np.abs(np.asarray(moved[n]) - expected).max() <= 1e-10 * spread
    if name == "twice nested":
        both = run(jax.tree.map(jnp.add, x, other))
        off = max(float(jnp.abs(both[n] - y[n] - far[n]).max()) for n in y)
        assert (off < 1e-10 * spread) is (pool == "sum")


def test_families_hear_only_from_their_own():
    """Kernels alone: a bias changes no kernel, and a kernel no bias."""
    spec = mlp(2, 3, 4, 2)
    own = recut(spec, "folded")
    x = features_of(own, 1, jax.random.key(1))
    moved = {n: v + (n == "w1") for n, v in x.items()}
    for families, changed in (
        (("kernel to kernel",), {"w0", "w1", "w2"}),
        (("kernel to bias",), {"b0", "b1", "b2"}),
        (("bias to kernel", "bias to bias"), set()),
        (FAMILIES, set(x)),
    ):
        rule = dws_maps(spec, "folded", families=families)
        layer = DwsLinear(own, 1, 1, key=jax.random.key(0), rule=rule, dtype=jnp.float64)
        run = quickly(lambda v, layer=layer: layer(Features.of(structure(own), v)).blocks())
        y, z = run(x), run(moved)
        assert {n for n in y if jnp.abs(y[n] - z[n]).max() > 1e-9} == changed


@pytest.mark.slow
def test_the_published_layer_as_a_network():
    """Invariant, and blind to units that move in one array alone it is not."""
    spec = mlp(2, 4, 3)
    params, other = (params_of(spec, jax.random.key(k)) for k in (0, 1))

    @quickly
    def run(batch):
        net = Metanetwork(
            spec,
            4,
            2,
            2,
            key=jax.random.key(2),
            method="dws",
            ends="fixed",
            published=True,
            pool="mean",
            dtype=jnp.float64,
        )
        return jax.vmap(net)(batch)

    moved = spec.act(spec.sample(jax.random.key(3)), params)
    alone = {**params, "w0": jnp.roll(params["w0"], 1, 1)}
    batch = jax.tree.map(lambda *x: jnp.stack(x), params, moved, alone, other)
    answer, same, unlike, far = run(batch)
    spread = jnp.abs(answer - far).max()
    assert spread > 1e-3
    assert jnp.abs(same - answer).max() <= 1e-10 * spread
    assert jnp.abs(unlike - answer).max() > 1e-3 * spread


def test_a_program_does_not_grow_with_equal_layers():
    """No module for every pair of layers: the traced program is the same at every depth."""
    counts = []
    for depth in (6, 12):
        spec = deep(depth, same=True)
        x = jax.eval_shape(
            lambda spec=spec: Features.of(
                structure(spec), features_of(spec, 2, jax.random.key(0), jnp.float32)
            )
        )
        layer = DwsLinear(spec, 2, 2, key=jax.random.key(0), pool="max")
        counts.append(equations(lambda x, layer=layer: layer(x).arrays, x))
    assert counts[0] == counts[1] < 250


def test_bad_options_are_named():
    spec = mlp(2, 3, 2)
    with pytest.raises(ValueError, match="`pool` must be one of"):
        dws_trunk(spec, 4, 1, key=jax.random.key(0), pool="median")
    with pytest.raises(ValueError, match="`families` must be among"):
        dws_trunk(spec, 4, 1, key=jax.random.key(0), families=("bias",))
    with pytest.raises(ValueError, match="published layer has ends='fixed'"):
        dws_trunk(spec, 4, 1, key=jax.random.key(0), published=True)
    assert "dws" in methods()
