"""What becomes of fixed axes: all of it exact where it is dense, a part of that where weights are few."""

from functools import partial

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
    Metanetwork,
    UniversalLinear,
    basis,
    build_trunk,
    structure,
)
from wsljax.representation.parts.folding import (
    FIXED,
    feature_structure,
    feature_widths,
    folded,
    folds_of,
    unfolded,
)
from wsljax.representation.universal.kronecker import KroneckerLinear
from wsljax.representation.universal.products import products_of

from .specs import SPECS, features_of, generators, orbits, params_of, spec_of
from .test_program import equations

KEPT = 1e-10


def mlp(*widths: int) -> symmetry.Spec:
    """With fixed inputs and outputs."""
    names = ["_", *(f"h{k}" for k in range(len(widths) - 2)), "_"]
    leaves = {}
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        leaves[f"w{k}"] = ((n, m), f"{names[k]} {names[k + 1]}")
        leaves[f"b{k}"] = ((m,), names[k + 1])
    return spec_of(leaves)


def conv(*channels: int, kernel: int = 3, logits: int = 10) -> symmetry.Spec:
    leaves, before = {}, "_"
    for k, (n, m) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        leaves[f"k{k}"] = ((kernel, kernel, n, m), f"_ _ {before} c{k}")
        leaves[f"b{k}"] = ((m,), f"c{k}")
        before = f"c{k}"
    leaves |= {"w": ((channels[-1], logits), f"{before} _"), "c": ((logits,), "_")}
    return spec_of(leaves)


CASES = {
    "2-3-4-2": (mlp(2, 3, 4, 2), 114),
    "2-3-2-3-2": (mlp(2, 3, 2, 3, 2), 164),
    "2-3-2": (mlp(2, 3, 2), 74),
    "conv": (conv(1, 3, 2, kernel=2, logits=2), None),
    "scanned": (
        spec_of({"w": ((2, 2, 2), "_L d m[_L]"), "n": ((2, 2), "_L d"), "e": ((1, 2), "_ d")}),
        None,
    ),
    "packed": (spec_of({"w": ((2, 2, 2), "d _1+_1 h|h"), "v": ((2, 2), "h d")}), None),
}


def raw(spec: symmetry.Spec, layer, fixed: str, vector: jax.Array) -> jax.Array:
    """The layer between weights themselves: coordinates kept, one channel, nothing embedded."""
    stops = np.cumsum([int(np.prod(leaf.shape)) for leaf in spec.leaves])[:-1]
    pieces = jnp.split(vector, stops)
    params = {x.path: p.reshape(x.shape) for x, p in zip(spec.leaves, pieces, strict=True)}
    blocks, folds = spec.blocks(params), folds_of(spec, fixed)
    stacks = {fold.indices.name: folded(blocks[fold.indices.name], fold, False) for fold in folds}
    x = {
        copy.name: a
        for fold in folds
        for copy, a in zip(fold.copies, stacks[fold.indices.name], strict=True)
    }
    y = layer(Features.of(feature_structure(spec, fixed), x)).blocks()
    out = {
        fold.indices.name: unfolded(jnp.stack([y[copy.name] for copy in fold.copies]), fold)
        for fold in folds
    }
    out = spec.unblocks(out, like=params)
    return jnp.concatenate([out[leaf.path].reshape(-1) for leaf in spec.leaves])


def raw_size(spec: symmetry.Spec) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)


def dense_layer(spec: symmetry.Spec) -> UniversalLinear:
    return UniversalLinear(
        feature_structure(spec, "dense"),
        1,
        1,
        key=jax.random.key(0),
        use_bias=False,
        widths=feature_widths(spec, "dense"),
        dtype=jnp.float64,
    )


def dense_maps(spec: symmetry.Spec) -> np.ndarray:
    """``(weights, out, in)``: the matrix of each weight of the dense layer between raw weights."""
    layer = dense_layer(spec)
    vector, rebuild = jax.flatten_util.ravel_pytree(layer.weights)

    def column(weights, e):
        moved = eqx.tree_at(lambda t: t.weights, layer, rebuild(weights))
        return raw(spec, moved, "dense", e)

    matrix = jax.vmap(column, (None, 0), 1)
    size = jnp.eye(raw_size(spec))
    return np.asarray(jax.jit(jax.vmap(matrix, (0, None)))(jnp.eye(len(vector)), size))


def raw_moves(spec: symmetry.Spec) -> list[np.ndarray]:
    """Generators of the group of the spec (its fixed axes stay) as permutations of the weights."""
    numbers, at = {}, 0
    for leaf in spec.leaves:
        n = int(np.prod(leaf.shape))
        numbers[leaf.path] = jnp.arange(at, at + n).reshape(leaf.shape)
        at += n
    out = []
    for g in generators(spec):
        fixed = [a for a in g if a.startswith("_")]
        if all((g[a] == np.arange(spec.size_of(a))).all() for a in fixed):
            g = {a: jnp.asarray(p) for a, p in g.items() if a not in fixed}
            moved = spec.act(g, numbers)
            out.append(np.concatenate([np.asarray(moved[x.path]).reshape(-1) for x in spec.leaves]))
    return out


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("2-3-4-2", "conv") else pytest.mark.slow) for n in CASES],
)
def test_dense_spans_every_map_of_the_weights(name):
    """Rank = orbits of the group on pairs of weights; the counts with fixed ends are known."""
    spec, known = CASES[name]
    found = dense_maps(spec)
    moves = raw_moves(spec)
    for p in moves:
        assert np.abs(found[:, p][:, :, p] - found).max() < 1e-12
    size = raw_size(spec)
    count = orbits((size, size), [(p, p) for p in moves])
    flat = found.reshape(len(found), -1)
    alive = flat[np.abs(flat).max(1) > 0]
    assert np.linalg.matrix_rank(alive) == len(alive) == count
    assert known is None or count == known


@pytest.mark.parametrize("name", ["2-3-2", pytest.param("conv", marks=pytest.mark.slow)])
def test_kronecker_is_a_part_of_dense(name):
    spec, _ = CASES[name]
    dense = dense_maps(spec)
    dense = dense.reshape(len(dense), -1)

    def matrix(key):
        keys = jax.random.split(key, 3)
        inner = UniversalLinear(spec, 1, 1, key=keys[0], use_bias=False, dtype=jnp.float64)
        layer = KroneckerLinear(spec, 1, inner, key=keys[1], dtype=jnp.float64)
        arrays, rest = eqx.partition(layer, eqx.is_array)
        vector, rebuild = jax.flatten_util.ravel_pytree(arrays)
        layer = eqx.combine(rebuild(jax.random.normal(keys[2], vector.shape)), rest)
        return jax.vmap(partial(raw, spec, layer, "kronecker"), 0, 1)(jnp.eye(raw_size(spec)))

    draws = np.asarray(jax.jit(jax.vmap(matrix))(jax.random.split(jax.random.key(0), 20)))
    draws = draws.reshape(len(draws), -1)
    rank = np.linalg.matrix_rank(dense)
    assert np.linalg.matrix_rank(draws) == 20  # a manifold, not a line
    assert np.linalg.matrix_rank(np.concatenate([dense, draws])) == rank


def distance(a, b) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


DEFAULT = {("kronecker", "flatten"), ("dense", "scanned")}
TRIED = [(f, n) for f in FIXED for n in ("mlp", "flatten", "scanned", "packed heads", "shortcut")]


@pytest.mark.parametrize(
    ("fixed", "name"),
    [pytest.param(*c, marks=() if c in DEFAULT else pytest.mark.slow) for c in TRIED],
)
def test_laws(fixed, name):
    """Invariant answers and equivariant edits; coordinates of fixed axes do not move freely."""
    spec = spec_of(SPECS[name])
    trunk = build_trunk("universal", spec, 4, 2, key=jax.random.key(0), fixed=fixed, dtype=float)
    pool = trunk.make_pool(spec, 4, key=jax.random.key(1))
    readout = trunk.make_readout(spec, 4, key=jax.random.key(2), dtype=jnp.float64)

    @jax.jit
    def run(params):
        x = trunk(spec.blocks(params))
        return pool(x), spec.unblocks(readout(x), like=params)

    params, other = (params_of(spec, jax.random.key(k)) for k in (3, 4))
    (answer, edit), far = run(params), run(other)
    g = spec.sample(jax.random.key(5))
    moved = run(spec.act(g, params))
    assert jax.tree.map(jnp.shape, edit) == jax.tree.map(jnp.shape, params)
    assert distance(moved[0], answer) <= KEPT * distance(answer, far[0])
    assert distance(moved[1], spec.act(g, edit)) <= KEPT * distance(edit, far[1])
    first = spec.leaves[0]
    axis = next((k for k, a in enumerate(spec.axes[first.path].split()) if a[0] == "_"), 0)
    broken = {**params, first.path: jnp.roll(params[first.path], 1, axis)}
    assert distance(run(broken)[0], answer) > 1e-4 * distance(answer, far[0])


def test_positions_read_kernels_of_any_size():
    small, large = (conv(1, 3, 4, kernel=k, logits=n) for k, n in ((2, 3), (3, 5)))
    net = Metanetwork(small, 4, 2, 1, key=jax.random.key(0), fixed="positions", dtype=float)
    run = quickly(lambda p: net(p, large))
    params = params_of(large, jax.random.key(1))
    answer, far = run(params), run(params_of(large, jax.random.key(2)))
    moved = run(large.act(large.sample(jax.random.key(3)), params))
    assert distance(moved, answer) <= KEPT * distance(answer, far)
    turned = {**params, "k0": params["k0"].swapaxes(0, 1)}
    assert distance(run(turned), answer) > 1e-3 * distance(answer, far)


def weights_of(spec: symmetry.Spec, channels: int, layers: int, **options) -> int:
    make = partial(build_trunk, "universal", spec, channels, layers, **options)
    trunk = eqx.filter_eval_shape(make, key=jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(trunk.layers) if hasattr(x, "size"))


def test_weights_of_three_layers_on_the_small_cnn_zoo():
    """Kernel positions as channels of every layer take 72 M (NFN-NP) and 145 M (NFN-HNP) here."""
    spec = conv(1, 16, 16, 16)
    count = {f: weights_of(spec, 128, 3, fixed=f) for f in FIXED}
    print({f: f"{n / 1e6:.2f} M" for f, n in count.items()})
    assert count["kronecker"] < 6e6
    assert count["positions"] < 20e6
    assert count["fold"] < count["kronecker"] < 1.2 * count["fold"]
    assert count["dense"] > 20 * count["kronecker"]
    shared = weights_of(spec, 128, 3, fixed="kronecker", coupling="shared")
    assert shared < count["kronecker"]


@pytest.mark.parametrize("fixed", ["dense", "kronecker"])
def test_programs_do_not_grow_with_the_coordinates(fixed):
    def traced(kernel: int) -> int:
        spec = conv(1, 4, 4, 4, kernel=kernel, logits=kernel)
        make = partial(build_trunk, "universal", spec, 4, 2, fixed=fixed)
        trunk = eqx.filter_eval_shape(make, key=jax.random.key(0))
        arrays, rest = eqx.partition(trunk, lambda a: isinstance(a, jax.ShapeDtypeStruct))
        params = {x.path: jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in spec.leaves}
        return equations(lambda a, p: eqx.combine(a, rest)(spec.blocks(p)), arrays, params)

    assert traced(3) == traced(5)


def test_a_dense_cnn_layer_is_a_handful_of_products():
    spec = conv(1, 16, 16, 16)
    blocks = feature_structure(spec, "dense")
    assert len(blocks) == 9 + 1 + 9 + 1 + 9 + 1 + 10 + 10
    products = products_of(basis(blocks, blocks), feature_widths(spec, "dense"))
    assert len(products) <= 10
    members = sum(len(p.members) for p in products)
    assert members == 6  # constants, three sets of channels, two pairs of them


def test_bad_input_is_named():
    spec = spec_of(SPECS["mlp"])
    with pytest.raises(ValueError, match="`fixed` must be one of"):
        build_trunk("universal", spec, 4, 1, key=jax.random.key(0), fixed="twisted")
    inner = UniversalLinear(spec, 4, 4, key=jax.random.key(0))
    layer = KroneckerLinear(spec, 4, inner, key=jax.random.key(1))
    x = Features.of(structure(spec), features_of(spec, 4, jax.random.key(0)))
    with pytest.raises(ValueError, match="other blocks than the layer.*fixed='kronecker'"):
        layer(x)
