"""Couplings between blocks: equivariant, parts of the universal layer, and with fewer weights at depth."""

from functools import partial

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.representation import Features, UniversalLinear, build_trunk, count_terms, structure
from wsljax.representation.universal.coupling import COUPLINGS, LowRankLinear
from wsljax.representation.universal.sharing import AttentionCoupling, SharedLinear

from .specs import SPECS, act, features_of, flat, generators, params_of, spec_of, unflat
from .test_program import equations

KEPT = 1e-10
LAYERS = {
    "low_rank": partial(LowRankLinear, rank=1),
    "shared": SharedLinear,
    "attention": partial(AttentionCoupling, heads=2),
}


def some(cases, default):
    return [pytest.param(*c, marks=() if c in default else pytest.mark.slow) for c in cases]


def generic(layer, key: jax.Array):
    """The layer with all of its arrays drawn anew, so that none is zero or one."""
    arrays, rest = eqx.partition(layer, eqx.is_array)
    vector, rebuild = jax.flatten_util.ravel_pytree(arrays)
    return eqx.combine(rebuild(jax.random.normal(key, vector.shape, vector.dtype)), rest)


@pytest.mark.parametrize(
    ("coupling", "name"),
    some(
        [(c, n) for c in LAYERS for n in SPECS],
        {("low_rank", "rnn"), ("shared", "nested in nested"), ("attention", "rnn")},
    ),
)
def test_equivariance(coupling, name):
    spec = spec_of(SPECS[name])
    layer = LAYERS[coupling](spec, 4, key=jax.random.key(0), dtype=jnp.float64)
    layer = generic(layer, jax.random.key(1))
    blocks = structure(spec)

    @jax.jit
    def run(x):
        return layer(Features.of(blocks, x)).blocks()

    x, other = (features_of(spec, 4, jax.random.key(k)) for k in (2, 3))
    y, far = run(x), run(other)
    spread = max(float(jnp.abs(y[b] - far[b]).max()) for b in y)
    assert spread > 0.1
    elements = [*generators(spec), *(spec.sample(jax.random.key(k)) for k in range(2))]
    for g in elements[:: max(1, len(elements) // 6)]:
        moved = run({n: jnp.asarray(v) for n, v in act(spec, g, x).items()})
        for block, value in act(spec, g, y).items():
            assert np.abs(np.asarray(moved[block]) - value).max() <= KEPT * spread
    wide = max(x, key=lambda n: x[n].ndim)  # units of one block alone: nothing that must hold
    broken = run({**x, wide: jnp.roll(x[wide], 1, 0)})
    expected = {**y, wide: jnp.roll(y[wide], 1, 0)}
    assert max(float(jnp.abs(broken[b] - expected[b]).max()) for b in y) > 1e-3 * spread


@pytest.mark.parametrize("coupling", ["low_rank", "shared"])
def test_linear_ones_are_a_part_of_the_universal_layer(coupling):
    """Their matrices lie in the span of the equivariant maps, whose dimension is known."""
    leaves = {f"b{k}": ((3,), "h") for k in range(4)}
    spec = spec_of({**leaves, "w": ((3, 3), "h h"), "v": ((3, 2), "h g")})
    blocks = structure(spec)
    size = len(flat(spec, features_of(spec, 1, jax.random.key(0))))

    def matrix(layer):
        def column(e):
            out = layer(Features.of(blocks, unflat(spec, e))).blocks()
            return jnp.concatenate([out[b.name].reshape(-1) for b in blocks])

        return jax.vmap(column, 0, 1)(jnp.eye(size)) - column(jnp.zeros(size))[:, None]

    def drawn(make, key):
        return matrix(generic(make(key), jax.random.fold_in(key, 1))).reshape(-1)

    keys = jax.random.split(jax.random.key(0), count_terms(spec) + 4)
    every = partial(UniversalLinear, spec, 1, 1, dtype=jnp.float64)
    part = partial(LAYERS[coupling], spec, 1, dtype=jnp.float64)
    whole = np.asarray(jax.jit(jax.vmap(lambda k: drawn(lambda k: every(key=k), k)))(keys))
    found = np.asarray(jax.jit(jax.vmap(lambda k: drawn(lambda k: part(key=k), k)))(keys[:10]))
    rank = np.linalg.matrix_rank(whole)
    assert rank == count_terms(spec)
    assert np.linalg.matrix_rank(found) == 10
    assert np.linalg.matrix_rank(np.concatenate([whole, found])) == rank


def residual(depth: int, width: int = 4) -> symmetry.Spec:
    """Layers that all read and write one set of units."""
    leaves = {}
    for k in range(depth):
        leaves[f"{k}/up"] = ((width, 5), f"d m{k}")
        leaves[f"{k}/b"] = ((5,), f"m{k}")
        leaves[f"{k}/down"] = ((5, width), f"m{k} d")
        leaves[f"{k}/scale"] = ((width,), "d")
    return spec_of(leaves)


def chain(depth: int) -> symmetry.Spec:
    leaves = {}
    for k in range(depth):
        leaves[f"w{k}"] = ((4, 4), f"h{k} h{k + 1}")
        leaves[f"b{k}"] = ((4,), f"h{k + 1}")
    return spec_of(leaves)


def layer_weights(spec: symmetry.Spec, coupling: str) -> int:
    make = partial(build_trunk, "universal", spec, 16, 1, coupling=coupling, norm=False)
    trunk = eqx.filter_eval_shape(make, key=jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(trunk.layers) if hasattr(x, "size"))


@pytest.mark.parametrize("make", [chain, residual])
def test_weights_grow_no_faster_than_the_depth(make):
    counts = {c: [layer_weights(make(n), c) for n in (8, 16, 32)] for c in COUPLINGS}
    print(make.__name__, counts)
    steps = {c: (n[2] - n[1]) / (n[1] - n[0]) if n[1] > n[0] else 0 for c, n in counts.items()}
    assert steps["dense"] > 3.5  # four for a square, two for a line
    assert steps["low_rank"] <= 2
    assert counts["shared"][0] == counts["shared"][2]
    assert counts["attention"][0] == counts["attention"][2]
    assert counts["shared"][2] < counts["low_rank"][2] < counts["dense"][2]


@pytest.mark.parametrize("coupling", ["shared", "attention"])
def test_one_layer_reads_networks_of_other_depths(coupling):
    shallow, deep = chain(3), chain(5)
    layer = LAYERS[coupling](shallow, 4, key=jax.random.key(0), dtype=jnp.float64)
    run = jax.jit(lambda x: layer(Features.of(structure(deep), x)).blocks())
    x, other = (features_of(deep, 4, jax.random.key(k)) for k in (1, 2))
    y, far = run(x), run(other)
    g = deep.sample(jax.random.key(3))
    moved = run({n: jnp.asarray(v) for n, v in act(deep, g, x).items()})
    for block, value in act(deep, g, y).items():
        assert np.abs(np.asarray(moved[block]) - value).max() <= KEPT * np.abs(far[block]).max()
    same = run({n: jnp.ones_like(v) for n, v in x.items()})
    assert float(jnp.abs(same["b1"] - same["b2"]).max()) > 1e-2  # blocks are told apart
    with pytest.raises(ValueError, match="has no weights for"):
        rnn = spec_of(SPECS["rnn"])
        layer(Features.of(structure(rnn), features_of(rnn, 4, jax.random.key(0))))


def test_programs_do_not_grow_with_repeated_layers():
    def traced(coupling: str, depth: int) -> int:
        spec = chain(depth)
        make = partial(build_trunk, "universal", spec, 4, 2, coupling=coupling, fixed="fold")
        trunk = eqx.filter_eval_shape(make, key=jax.random.key(0))
        arrays, rest = eqx.partition(trunk.layers, lambda a: isinstance(a, jax.ShapeDtypeStruct))
        arrays = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), arrays)
        x = jax.eval_shape(
            lambda: Features.of(
                structure(spec), features_of(spec, 4, jax.random.key(0), jnp.float32)
            )
        )
        return equations(lambda a, x: eqx.combine(a, rest)(x), arrays, x)

    for coupling in LAYERS:
        assert traced(coupling, 8) == traced(coupling, 16)


SIGNAL = [
    ("fold", "dense", "partition"),
    ("fold", "dense", "orthogonal"),
    ("fold", "low_rank", "partition"),
    ("fold", "shared", "partition"),
    ("fold", "attention", "partition"),
    ("dense", "dense", "partition"),
    ("kronecker", "dense", "partition"),
    ("positions", "dense", "partition"),
    ("kronecker", "shared", "partition"),
]


@pytest.mark.parametrize(
    ("fixed", "coupling", "basis"),
    some(
        SIGNAL, {("kronecker", "dense", "partition"), ("fold", "low_rank", "partition"), SIGNAL[3]}
    ),
)
def test_signal_keeps_its_size_through_ten_layers(fixed, coupling, basis):
    """Neither normalised nor activated: what the initial weights themselves do."""
    leaves = {f"w{k}": ((8, 8), f"h{k} h{k + 1}") for k in range(4)}
    leaves |= {f"b{k}": ((8,), f"h{k + 1}") for k in range(4)}
    leaves |= {"r": ((8, 3), "h2 _"), "s": ((8, 3), "h2 _"), "t": ((8,), "h2")}
    spec = spec_of({**leaves, "q": ((8, 8), "h2 h2")})
    trunk = build_trunk(
        "universal",
        spec,
        32,
        10,
        key=jax.random.key(0),
        fixed=fixed,
        coupling=coupling,
        basis=basis,
        norm=False,
        activation=lambda x: x,
        dtype=jnp.float64,
    )
    x = jax.jit(lambda p: trunk(spec.blocks(p)))(params_of(spec, jax.random.key(1)))
    sizes = {n: float(jnp.sqrt(jnp.mean(a**2))) for n, a in x.blocks().items()}
    assert all(0.3 < size < 3 for size in sizes.values()), sizes


def test_bad_input_is_named():
    spec = spec_of(SPECS["rnn"])
    with pytest.raises(ValueError, match="`coupling` must be one of"):
        build_trunk("universal", spec, 4, 1, key=jax.random.key(0), coupling="loose")
    with pytest.raises(ValueError, match="`channels` and `rank` must be positive"):
        LowRankLinear(spec, 4, key=jax.random.key(0), rank=0)
    with pytest.raises(ValueError, match="`heads` must be positive"):
        AttentionCoupling(spec, 4, key=jax.random.key(0), heads=0)
    x = Features.of(structure(spec), features_of(spec, 2, jax.random.key(0)))
    with pytest.raises(ValueError, match="have 2 channels, the layer takes 4"):
        SharedLinear(spec, 4, key=jax.random.key(0))(x)
    other = Features.of(
        structure(spec_of(SPECS["mlp"])), features_of(spec_of(SPECS["mlp"]), 4, jax.random.key(0))
    )
    with pytest.raises(ValueError, match="other blocks than the layer"):
        LowRankLinear(spec, 4, key=jax.random.key(0))(other)
