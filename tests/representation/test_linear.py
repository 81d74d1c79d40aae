"""The universal layer: equivariant, complete, width-free, and well-behaved under JAX's transformations."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import (
    Features,
    UniversalLinear,
    count_terms,
    structure,
    universal_linear,
)
from wsljax.representation.blocks.features import STACK_UP_TO

from .specs import SPECS, act, features_of, flat, generators, moves, spec_of, unflat

KEPT = 1e-10


def maps(layer: UniversalLinear, spec: symmetry.Spec) -> np.ndarray:
    """The layer's matrix for every one of its weights set to one: ``(weights, out, in)``."""
    vector, rebuild = jax.flatten_util.ravel_pytree(layer.weights)
    size = len(flat(spec, features_of(spec, 1, jax.random.key(0))))

    def column(weights, e):
        x = Features.of(layer.inputs, unflat(spec, e))
        out = universal_linear(layer.basis, rebuild(weights), None, x).blocks()
        return jnp.concatenate([out[b.name].reshape(-1) for b in layer.outputs])

    matrix = jax.vmap(column, (None, 0), 1)
    return np.asarray(jax.jit(jax.vmap(matrix, (0, None)))(jnp.eye(len(vector)), jnp.eye(size)))


COMPLETE = [name for name in SPECS if name not in ("four times", "lstm", "scanned")]


def some(names, default):
    """Those in ``default`` run by default, the others are slow."""
    return [pytest.param(n, marks=() if n in default else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", some(COMPLETE, ("mlp", "rnn", "twice nested")))
def test_spans_every_equivariant_map(name):
    """Rank of the layer's maps = dimension of the null space of ``M P(g) = P(g) M`` over generators."""
    spec = spec_of(SPECS[name])
    layer = UniversalLinear(spec, 1, 1, key=jax.random.key(0), dtype=jnp.float64, use_bias=False)
    found = maps(layer, spec)
    permutations = moves(spec)
    for p in permutations:  # row i of M moves to where i came from, columns likewise
        assert np.abs(found[:, p][:, :, p] - found).max() < 1e-12
    n = found.shape[-1]
    rank = np.linalg.matrix_rank(found.reshape(len(found), -1))
    # the projection onto maps fixed by all generators has as null space of (projection - 1) what
    # commutes; over pairs (i, j) it is a graph, so its dimension is the number of components
    assert rank == null_space_dimension(permutations, n) == count_terms(spec)


def null_space_dimension(permutations: list[np.ndarray], n: int) -> int:
    """Dimension of ``{M : M[p][:, p] = M for all p}``, as ``n^2`` minus the rank of the constraints."""
    import scipy.sparse
    import scipy.sparse.csgraph

    rows, columns = [], []
    for p in permutations:
        rows.append(np.arange(n * n))
        columns.append((p[:, None] * n + p[None, :]).reshape(-1))
    # every constraint says that two entries are equal: an incidence matrix, whose rank is the number
    # of entries minus the number of connected components
    graph = scipy.sparse.coo_matrix(
        (np.ones(len(permutations) * n * n), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n * n, n * n),
    )
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[0]


@pytest.mark.parametrize("name", ["width one", "rnn", "twice nested"])
def test_null_space_by_singular_values(name):
    """The same dimension by a dense decomposition of the constraints, on a spec cut small."""
    small = {
        "width one": SPECS["width one"],
        "rnn": {"w": ((3, 3), "h h"), "b": ((3,), "h")},
        "twice nested": {"w": ((2, 2, 2), "h m[h] m[h]"), "v": ((2, 2), "h m[h]")},
    }[name]
    spec = spec_of(small)
    layer = UniversalLinear(spec, 1, 1, key=jax.random.key(0), dtype=jnp.float64, use_bias=False)
    found = maps(layer, spec)
    n = found.shape[-1]
    constraints = []
    for p in moves(spec):
        matrix = np.eye(n)[p]
        constraints.append(np.kron(matrix, np.eye(n)) - np.kron(np.eye(n), matrix.T))
    nullity = n * n - np.linalg.matrix_rank(np.concatenate(constraints))
    assert np.linalg.matrix_rank(found.reshape(len(found), -1)) == nullity == count_terms(spec)


@pytest.mark.parametrize("name", some(SPECS, ("thrice", "packed heads", "scanned", "transposed")))
def test_equivariance(name):
    spec = spec_of(SPECS[name])
    layer = UniversalLinear(spec, 3, 2, key=jax.random.key(0), dtype=jnp.float64)
    layer = eqx.tree_at(lambda t: t.bias, layer, jnp.arange(len(layer.bias), dtype=jnp.float64))
    run = eqx.filter_jit(layer)
    x, other = (features_of(spec, 3, jax.random.key(k)) for k in (1, 2))
    y, far = run(x), run(other)
    spread = max(float(jnp.abs(a - b).max()) for a, b in zip(y.values(), far.values(), strict=True))
    elements = [*generators(spec), *(spec.sample(jax.random.key(k)) for k in range(3))]
    for g in elements[:: max(1, len(elements) // 8)]:
        moved = run(act(spec, g, x))
        expected = act(spec, g, y)
        for block, value in expected.items():
            assert np.abs(np.asarray(moved[block]) - value).max() <= KEPT * spread


def test_weights_do_not_depend_on_widths():
    """Drawn for other widths they are the same, and a network with every unit doubled gets the same
    output, doubled (its means are the same)."""

    def spec_at(a: int, b: int, m: int) -> symmetry.Spec:
        return spec_of({"w": ((a, b), "a b"), "v": ((b,), "b"), "q": ((a, m), "a m[a]")})

    one, two = spec_at(4, 5, 3), spec_at(8, 10, 6)
    layer = UniversalLinear(one, 2, 3, key=jax.random.key(0), dtype=jnp.float64)
    again = UniversalLinear(two, 2, 3, key=jax.random.key(0), dtype=jnp.float64)
    assert eqx.tree_equal(layer, again)

    def doubled(x: jax.Array) -> jax.Array:
        for axis in range(x.ndim - 1):
            x = jnp.repeat(x, 2, axis)
        return x

    x = features_of(one, 2, jax.random.key(1))
    wide = layer({n: doubled(v) for n, v in x.items()})
    for name, value in layer(x).items():
        assert jnp.allclose(wide[name], doubled(value), atol=1e-12)


@pytest.mark.parametrize("name", some(["mlp", "rnn", "heads", "scanned"], ("rnn",)))
def test_same_weights_at_another_width_are_equivariant(name):
    spec = spec_of(SPECS[name])
    layer = UniversalLinear(spec, 2, 2, key=jax.random.key(0), dtype=jnp.float64)
    wider = {
        p: (tuple(2 * n for n in shape), text) for p, (shape, text) in SPECS[name].items()
    }  # fixed axes are wider as well, which features do not show
    other = spec_of(wider)
    x = features_of(other, 2, jax.random.key(1))
    run = quickly(lambda x: layer(x))
    y = run(x)
    g = other.sample(jax.random.key(2))
    moved = run(act(other, g, x))
    for block, value in act(other, g, y).items():
        assert np.abs(np.asarray(moved[block]) - value).max() <= 1e-12


def test_between_two_specs():
    one = spec_of({"w": ((3, 4), "a b"), "q": ((3, 2), "a m[a]")})
    two = spec_of({"u": ((3,), "a"), "v": ((4, 4), "b b"), "p": ((2, 3), "m[a] a")})
    layer = UniversalLinear(one, 1, 1, key=jax.random.key(0), spec_out=two, dtype=jnp.float64)
    found = maps(layer, one)
    assert np.linalg.matrix_rank(found.reshape(len(found), -1)) == count_terms(one, two)
    x = features_of(one, 1, jax.random.key(1))
    g = one.sample(jax.random.key(2))
    moved = layer(act(one, g, x))
    for block, value in act(two, g, layer(x)).items():
        assert np.abs(np.asarray(moved[block]) - value).max() <= 1e-12


@pytest.mark.parametrize(
    "dtype", some(["bfloat16", "float16", "float32", "float64"], ("bfloat16",))
)
def test_dtype_of_the_features_is_kept(dtype):
    spec = spec_of(SPECS["heads"])
    layer = UniversalLinear(spec, 4, 4, key=jax.random.key(0))
    x = features_of(spec, 4, jax.random.key(1), jnp.dtype(dtype))
    run = quickly(lambda x: layer(x))
    y = run(x)
    assert {a.dtype for a in y.values()} == {jnp.dtype(dtype)}
    exact = run({n: v.astype(jnp.float64) for n, v in x.items()})
    step = float(jnp.finfo(dtype).eps)
    for name, value in y.items():
        assert jnp.abs(value - exact[name]).max() < 20 * step * jnp.abs(exact[name]).max() + 1e-12


def test_transformations_agree():
    spec = spec_of(SPECS["rnn"])
    layer = UniversalLinear(spec, 2, 2, key=jax.random.key(0), dtype=jnp.float64)
    batch = [features_of(spec, 2, jax.random.key(k)) for k in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *batch)
    run = eqx.filter_jit(layer)
    single = [layer(batch[0]), *map(run, batch[1:])]  # one step by step
    expected = jax.tree.map(lambda *a: jnp.stack(a), *single)

    def same(a, b):
        return all(
            jnp.allclose(x, y, atol=1e-12)
            for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
        )

    assert same(run(batch[0]), single[0])
    assert same(quickly(jax.vmap(layer))(stacked), expected)
    assert same(jax.lax.map(layer, stacked), expected)
    assert same(jax.lax.scan(lambda c, x: (c, layer(x)), 0, stacked)[1], expected)
    ensemble = eqx.filter_vmap(lambda k: UniversalLinear(spec, 2, 2, key=k, dtype=jnp.float64))(
        jax.random.split(jax.random.key(0), 2)
    )
    both = eqx.filter_vmap(lambda m, x: m(x), in_axes=(eqx.if_array(0), None))(ensemble, batch[0])
    assert all(a.shape[0] == 2 for a in both.values())

    def loss(layer, x):
        return sum(jnp.sum(jnp.sin(a)) for a in layer(x).values())

    arrays, rest = eqx.partition(layer, eqx.is_array)

    def at(arrays, x):
        return loss(eqx.combine(arrays, rest), x)

    grads = quickly(jax.grad(at, (0, 1)))(arrays, batch[0])
    ones = jax.tree.map(
        lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), (arrays, batch[0])
    )
    forward = jax.jvp(at, (arrays, batch[0]), ones)[1]
    backward = sum(
        jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (grads, ones)), strict=True)
    )
    small = jax.tree.map(lambda a, d: a + 1e-6 * d, (arrays, batch[0]), ones)
    assert jnp.allclose(forward, backward, rtol=1e-10)
    assert jnp.allclose(forward, (at(*small) - at(arrays, batch[0])) / 1e-6, rtol=1e-4)


def test_stacking_changes_nothing(monkeypatch):
    """Blocks by themselves, and blocks in stacks, give the same layer."""
    leaves = {}
    for k in range(4):
        leaves[f"w{k}"] = ((5, 5), f"h{k} h{k + 1}" if k % 2 else f"h{k + 1} h{k}")
        leaves[f"b{k}"] = ((5,), f"h{k + 1}")
    spec = spec_of({**leaves, "r": ((5, 5), "h2 h2"), "s": ((5, 5), "h3 h3")})
    layer = UniversalLinear(spec, 2, 3, key=jax.random.key(0), dtype=jnp.float64)
    x = features_of(spec, 2, jax.random.key(1))
    assert len(Features.of(layer.inputs, x).arrays) == 3
    stacked = layer(x)
    for module in ("blocks.features", "universal.products"):
        monkeypatch.setattr(f"wsljax.representation.{module}.STACK_UP_TO", 0)
    assert len(Features.of(layer.inputs, x).arrays) == 10
    for name, value in layer(x).items():
        assert jnp.allclose(value, stacked[name], atol=1e-12)
    assert STACK_UP_TO > 25


DEEP = {
    "mlp": {
        "w0": ((2, 32), "i a"),
        "b0": ((32,), "a"),
        "w1": ((32, 32), "a b"),
        "b1": ((32,), "b"),
        "w2": ((32, 5), "b o"),
        "b2": ((5,), "o"),
    },
    "rnn": {"x": ((3, 12), "_ h"), "w": ((12, 12), "h h"), "b": ((12,), "h")},
    "thrice": {"t": ((12, 12, 12), "h h h"), "w": ((12, 12), "h h")},
    "twice nested": {
        "w": ((3, 6, 6), "h m[h] m[h]"),
        "v": ((8, 3, 6), "d h m[h]"),
        "n": ((8,), "d"),
    },
    "narrow": {"w": ((3, 2, 2), "h m[h] m[h]"), "t": ((3, 3), "h h"), "u": ((1, 3), "o h")},
    "width one": SPECS["width one"],
    "heads": SPECS["heads"],
}


def sizes_after(spec: symmetry.Spec, depth: int, draw) -> dict[str, float]:
    """Root mean square of every block after that many layers, linear and not normalised."""
    x = Features.of(structure(spec), features_of(spec, 32, jax.random.key(0)))
    layers = eqx.filter_vmap(draw)(jax.random.split(jax.random.key(1), depth))
    arrays, rest = eqx.partition(layers, eqx.is_array)
    last, _ = jax.lax.scan(lambda x, a: (eqx.combine(a, rest)(x), None), x, arrays)
    return {n: float(jnp.sqrt(jnp.mean(a**2))) for n, a in last.blocks().items()}


@pytest.mark.parametrize("name", some(DEEP, ("mlp", "twice nested")))
def test_signal_keeps_its_size_through_a_deep_stack(name):
    """Sixteen layers on unit features: no block fades or blows up."""
    spec = spec_of(DEEP[name])
    found = sizes_after(spec, 16, lambda k: UniversalLinear(spec, 32, 32, key=k, dtype=jnp.float64))
    assert all(0.2 < size < 2 for size in found.values()), found


@pytest.mark.slow
def test_plain_fan_in_would_not_keep_it():
    """What the initial weights are for: the usual draw multiplies the signal by thousands."""
    spec = spec_of(DEEP["mlp"])

    def draw(key: jax.Array) -> UniversalLinear:
        layer = UniversalLinear(spec, 32, 32, key=key, dtype=jnp.float64)
        plain = {
            name: jax.random.normal(jax.random.fold_in(key, n), w.shape, w.dtype)
            / w.shape[-2] ** 0.5
            for n, (name, w) in enumerate(layer.weights.items())
        }
        return eqx.tree_at(lambda t: t.weights, layer, plain)

    assert min(sizes_after(spec, 16, draw).values()) > 100


def test_bad_input_is_named():
    spec = spec_of(SPECS["mlp"])
    layer = UniversalLinear(spec, 2, 2, key=jax.random.key(0))
    x = features_of(spec, 2, jax.random.key(1))
    with pytest.raises(ValueError, match="missing blocks \\['w1'\\]"):
        layer({n: v for n, v in x.items() if n != "w1"})
    with pytest.raises(ValueError, match="unknown \\['z'\\]"):
        layer({**x, "z": x["b0"]})
    with pytest.raises(ValueError, match="'w1' has shape .* jax.vmap|'b0'.*jax.vmap"):
        layer(jax.tree.map(lambda a: a[None], x))
    with pytest.raises(ValueError, match="'w1'.*coordinates of 'b'"):
        layer({**x, "w1": jnp.zeros((4, 6, 2))})
    with pytest.raises(ValueError, match="'b1' have 3 channels"):
        layer({**x, "b1": jnp.zeros((5, 3))})
    with pytest.raises(ValueError, match="have 2 channels, the layer takes 4"):
        UniversalLinear(spec, 4, 2, key=jax.random.key(0))(x)
    with pytest.raises(ValueError, match="`c_in` and `c_out` must be positive"):
        UniversalLinear(spec, 0, 2, key=jax.random.key(0))
    other = Features.of(
        structure(spec_of(SPECS["rnn"])), features_of(spec_of(SPECS["rnn"]), 2, jax.random.key(0))
    )
    with pytest.raises(ValueError, match="other blocks"):
        layer(other)
