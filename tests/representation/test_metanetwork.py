"""Whole metanetworks: from raw weights to an invariant answer, and to equivariant edits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures.registry import quickly
from wsljax.representation import (
    BlockNorm,
    Editor,
    Embed,
    Features,
    InvariantPool,
    Metanetwork,
    Readout,
    UniversalLinear,
    block_scales,
    structure,
)
from wsljax.representation.parts.folding import position_codes

from .specs import SPECS, act, features_of, flat, generators, orbits, params_of, spec_of

KEPT = 1e-10


def distance(a, b) -> float:
    return max(
        float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


def some(*kept):
    """All specs, those that are not kept only with `-m slow`."""
    return [pytest.param(n, marks=() if n in kept else pytest.mark.slow) for n in SPECS]


@pytest.mark.parametrize("name", some("packed heads", "four times", "width one"))
def test_answers_are_invariant_and_edits_equivariant(name):
    spec = spec_of(SPECS[name])
    net = Metanetwork(
        spec,
        4,
        2,
        3,
        key=jax.random.key(0),
        pooling={"statistics": ("mean", "square")},
        dtype=jnp.float64,
    )
    readout = Readout(spec, 4, key=jax.random.key(1), dtype=jnp.float64)

    @jax.jit
    def run(params):
        x = net.trunk(spec.blocks(params))
        return net.head(net.pool(x)), spec.unblocks(readout(x), like=params)

    params, other = (params_of(spec, jax.random.key(k)) for k in (2, 3))
    answer, edit = run(params)
    far_answer, far_edit = run(other)
    for k in range(3):
        g = spec.sample(jax.random.key(10 + k))
        moved_answer, moved_edit = run(spec.act(g, params))
        assert distance(moved_answer, answer) <= KEPT * distance(answer, far_answer)
        assert distance(moved_edit, spec.act(g, edit)) <= KEPT * distance(edit, far_edit)


def test_answers_tell_apart_what_the_group_does_not_join():
    """Moving the units of one leaf alone gives another network, and another answer."""
    spec = spec_of(SPECS["heads"])
    net = Metanetwork(spec, 8, 2, 1, key=jax.random.key(0), dtype=jnp.float64)
    params, other = (params_of(spec, jax.random.key(k)) for k in (1, 2))
    run = jax.jit(net.__call__)
    spread = distance(run(params), run(other))
    for name in params:
        for axis in range(params[name].ndim):
            if (name, axis) == ("n", 0):
                continue
            broken = {**params, name: jnp.roll(params[name], 1, axis)}
            assert distance(run(broken), run(params)) > 1e-3 * spread, (name, axis)


def test_order_of_stacked_layers_matters_by_position_codes():
    spec = spec_of(SPECS["scanned"])
    net = Metanetwork(spec, 8, 2, 1, key=jax.random.key(0), dtype=jnp.float64)
    params, other = (params_of(spec, jax.random.key(k)) for k in (1, 2))
    turned = {n: jnp.roll(x, 1, 0) if n != "e" else x for n, x in params.items()}
    run = jax.jit(net.__call__)
    assert distance(run(turned), run(params)) > 1e-3 * distance(run(params), run(other))


def test_position_codes_are_distinct_and_bounded():
    for size in (1, 2, 12, 96):
        codes = np.asarray(position_codes(size))
        apart = np.abs(codes[:, None] - codes[None]).max(-1) + np.eye(size)
        assert np.abs(codes).max() <= 1
        assert apart.min() > 0.02


@pytest.mark.parametrize("name", ["mlp", "flatten", "packed heads"])
def test_fixed_axes_lose_no_map(name):
    """Embedding, one layer and readout, all linear, reach every equivariant map of the raw weights."""
    small = {
        "mlp": {"w": ((2, 3), "_ a"), "v": ((3, 2), "a _"), "c": ((2,), "_")},
        "flatten": {"k": ((2, 3), "_ c"), "w": ((6, 1), "(_2 c) _")},
        "packed heads": {"w": ((2, 2, 2), "d _1+_1 h|h"), "v": ((2, 2), "h d")},
    }[name]
    spec = spec_of(small)
    size = sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)

    def ravel(params) -> np.ndarray:
        return np.concatenate([np.asarray(params[leaf.path]).reshape(-1) for leaf in spec.leaves])

    def unravel(vector):
        stops = np.cumsum([int(np.prod(leaf.shape)) for leaf in spec.leaves])[:-1]
        pieces = jnp.split(jnp.asarray(vector), stops)
        return {x.path: p.reshape(x.shape) for x, p in zip(spec.leaves, pieces, strict=True)}

    def matrix(key):
        keys = jax.random.split(key, 3)
        embed = Embed(spec, 6, key=keys[0], dtype=jnp.float64)
        layer = UniversalLinear(spec, 6, 6, key=keys[1], dtype=jnp.float64)
        readout = Readout(spec, 6, key=keys[2], dtype=jnp.float64)

        def run(vector):
            out = spec.unblocks(readout(layer(embed(spec.blocks(unravel(vector))))))
            return jnp.concatenate([out[leaf.path].reshape(-1) for leaf in spec.leaves])

        return jax.jacfwd(run)(jnp.zeros(size))

    elements = [g for g in generators(spec)]
    moves = [
        ravel(spec.act({n: jnp.asarray(p) for n, p in g.items()}, unravel(np.arange(size))))
        for g in elements
    ]
    count = orbits((size, size), [(m, m) for m in moves])
    draws = jax.jit(jax.vmap(matrix))(jax.random.split(jax.random.key(0), count + 10))
    assert np.linalg.matrix_rank(np.asarray(draws).reshape(len(draws), -1)) == count


@pytest.mark.parametrize("name", some("heads", "four times", "scanned", "mlp"))
def test_pool_is_a_basis_of_the_invariant_linear_maps(name):
    """As many numbers as the group has orbits on coordinates, all independent."""
    spec = spec_of(SPECS[name])
    if name in ("thrice", "four times", "width one"):
        pytest.skip("fewer units than ties: reductions coincide")
    pool = InvariantPool(spec)
    blocks = structure(spec)
    size = len(flat(spec, features_of(spec, 1, jax.random.key(0))))
    keys = jax.random.split(jax.random.key(1), size)
    rows = jax.vmap(lambda k: pool(Features.of(blocks, features_of(spec, 1, k))))(keys)
    labels = np.arange(size)
    starts = np.cumsum([0] + [int(np.prod([spec.size_of(a) for a in b.labels])) for b in blocks])
    index = {b.name: np.arange(i, j).reshape(*(spec.size_of(a) for a in b.labels), 1)
             for b, i, j in zip(blocks, starts[:-1], starts[1:], strict=True)}  # fmt: skip
    moves = [flat(spec, act(spec, g, index)) for g in generators(spec)]
    while True:
        before = labels
        for move in moves:
            labels = np.minimum(labels, labels[move])
        if (before == labels).all():
            break
    assert np.linalg.matrix_rank(np.asarray(rows)) == len(np.unique(labels)) == pool.size(1)


def test_pool_by_hand():
    spec = spec_of({"w": ((3, 3), "h h"), "v": ((3, 2), "h g")})
    x = features_of(spec, 2, jax.random.key(0))
    out = InvariantPool(spec, statistics=("mean", "square"))(Features.of(structure(spec), x))
    v, w = x["v"], x["w"]
    diagonal = jnp.stack([w[i, i] for i in range(3)])
    expected = [
        (f(v).mean((0, 1)), f(w).mean((0, 1)), f(diagonal).mean(0))
        for f in (jnp.asarray, jnp.square)
    ]
    assert jnp.allclose(jnp.sort(out), jnp.sort(jnp.concatenate(jax.tree.leaves(expected))))
    with pytest.raises(ValueError, match="`statistics` must be among"):
        InvariantPool(spec, statistics=("median",))


@pytest.mark.parametrize("per_channel", [False, True])
def test_norm(per_channel):
    spec = spec_of(SPECS["heads"] | {"s": ((), "")})
    norm = BlockNorm(spec, 4, per_channel=per_channel, dtype=jnp.float64)
    x = {n: 100 * v for n, v in features_of(spec, 4, jax.random.key(0)).items()}
    y = norm(Features.of(structure(spec), x)).blocks()
    for name, value in y.items():
        axes = tuple(range(value.ndim - 1)) if per_channel and value.ndim > 1 else None
        assert jnp.allclose(jnp.mean(value**2, axes), 1, atol=1e-6), name
    g = spec.sample(jax.random.key(1))
    moved = norm(
        Features.of(structure(spec), {n: jnp.asarray(v) for n, v in act(spec, g, x).items()})
    )
    for name, value in act(spec, g, y).items():
        assert jnp.allclose(moved[name], value, atol=1e-12)
    bf16 = norm(Features.of(structure(spec), {n: v.astype(jnp.bfloat16) for n, v in x.items()}))
    assert {a.dtype for a in bf16.arrays} == {jnp.dtype(jnp.bfloat16)}


def test_one_metanetwork_reads_networks_of_other_widths():
    spec = spec_of(SPECS["mlp"])
    wide = spec_of(
        {
            "w0": ((2, 9), "_ a"),
            "b0": ((9,), "a"),
            "w1": ((9, 1), "a b"),
            "b1": ((1,), "b"),
            "w2": ((1, 3), "b _"),
            "b2": ((3,), "_"),
        }
    )
    net = Metanetwork(spec, 4, 2, 1, key=jax.random.key(0), dtype=jnp.float64)
    edit = Editor(spec, 4, 2, key=jax.random.key(1), dtype=jnp.float64)
    run = jax.jit(lambda params: (net(params, wide), edit(params, wide)))
    params, other = (params_of(wide, jax.random.key(k)) for k in (1, 2))
    g = wide.sample(jax.random.key(3))
    answer, out = run(params)
    moved_answer, moved_out = run(wide.act(g, params))
    assert distance(answer, moved_answer) <= KEPT * distance(answer, run(other)[0])
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, params)
    assert distance(wide.act(g, out), moved_out) < 1e-11
    for leaves in (SPECS["rnn"], {**SPECS["mlp"], "w0": ((5, 4), "_ a")}):
        foreign = spec_of(leaves)
        with pytest.raises(ValueError, match="only widths"):
            net(params_of(foreign, jax.random.key(0)), foreign)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_of_the_networks_is_kept(dtype):
    spec = spec_of(SPECS["scanned"])
    params = params_of(spec, jax.random.key(0), dtype)
    net = Metanetwork(spec, 4, 2, 1, key=jax.random.key(1))
    edit = Editor(spec, 4, 2, key=jax.random.key(1))
    answer, edited = quickly(lambda params: (net(params), edit(params)))(params)
    assert answer.dtype == dtype
    assert {x.dtype for x in jax.tree.leaves(edited)} == {jnp.dtype(dtype)}
    assert {a.dtype for a in jax.tree.leaves(eqx.filter(net, eqx.is_array))} == {
        jnp.dtype("float32")
    }


def test_batches_gradients_and_a_training_step():
    spec = spec_of(SPECS["mlp"])
    population = jax.vmap(lambda k: params_of(spec, k))(jax.random.split(jax.random.key(0), 24))
    targets = jnp.tanh(jnp.sum(population["b0"] ** 2, 1) - 4)[:, None]
    scales = block_scales(spec, population)
    assert 0.5 < scales["w1"] < 2
    net = Metanetwork(spec, 8, 2, 1, key=jax.random.key(1), scales=scales, dtype=jnp.float64)
    answers = quickly(jax.vmap(net))(population)
    run = quickly(lambda params: net(params))
    one_by_one = jnp.stack([run(jax.tree.map(lambda x, n=n: x[n], population)) for n in range(3)])
    assert jnp.allclose(answers[:3], one_by_one, atol=1e-12)

    optimiser = optax.adam(3e-3)
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)

    def loss(arrays):
        out = jax.vmap(eqx.combine(arrays, rest))(population)
        return jnp.mean((out - targets) ** 2)

    @quickly
    def train(arrays):
        def step(carry, _):
            arrays, state = carry
            value, grads = jax.value_and_grad(loss)(arrays)
            updates, state = optimiser.update(grads, state)
            return (optax.apply_updates(arrays, updates), state), value

        return jax.lax.scan(step, (arrays, optimiser.init(arrays)), None, 150)[1]

    losses = train(arrays)
    assert losses[-1] < 0.05 * losses[0]
    grads = quickly(jax.grad(loss))(arrays)
    assert all(jnp.isfinite(g).all() and jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    per_network = quickly(jax.vmap(jax.grad(lambda p: net(p)[0])))(population)
    assert jax.tree.map(jnp.shape, per_network) == jax.tree.map(jnp.shape, population)


def test_unrolling_the_layers_changes_nothing():
    spec = spec_of(SPECS["rnn"])
    nets = [
        Metanetwork(spec, 4, 3, 1, key=jax.random.key(0), unroll=n, dtype=jnp.float64)
        for n in (1, 3)
    ]
    params = params_of(spec, jax.random.key(1))
    assert distance(nets[0](params), nets[1](params)) < 1e-13


def test_channels_of_the_input():
    """Weights and their gradients side by side, as a learned optimiser reads them."""
    spec = spec_of(SPECS["flatten"])
    embed = Embed(spec, 5, key=jax.random.key(0), c_in=2, dtype=jnp.float64)
    params, grads = (params_of(spec, jax.random.key(k)) for k in (1, 2))
    blocks = {
        n: jnp.stack([a, b], -1)
        for (n, a), b in zip(spec.blocks(params).items(), spec.blocks(grads).values(), strict=True)
    }
    x = embed(blocks)
    swapped = embed({n: b[..., ::-1] for n, b in blocks.items()})
    assert distance(x, swapped) > 1e-2
    with pytest.raises(ValueError, match="expected .* 2\\)"):
        embed(spec.blocks(params))


def test_bad_input_is_named():
    spec = spec_of(SPECS["mlp"])
    net = Metanetwork(spec, 4, 1, 1, key=jax.random.key(0))
    params = params_of(spec, jax.random.key(1))
    with pytest.raises(ValueError, match="jax.vmap"):
        net(jax.tree.map(lambda x: jnp.stack([x, x]), params))
    with pytest.raises(ValueError, match="'w0'"):
        net({**params, "w0": jnp.zeros((3, 4))})
    with pytest.raises(ValueError, match="`layers` must be positive"):
        Metanetwork(spec, 4, 0, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="does not have: \\['nothing'\\]"):
        Embed(spec, 4, key=jax.random.key(0), scales={"nothing": 1.0})
    keys = spec_of({"w": ((3,), "h"), "k": ((), "")})
    with pytest.raises(ValueError, match="'k' has dtype key"):
        Metanetwork(keys, 4, 1, 1, key=jax.random.key(0))(
            {"w": jnp.ones(3), "k": jax.random.key(0)}
        )
