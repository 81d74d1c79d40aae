"""Parts around layers: equivariance of each on specs with nesting, repeats and fixed axes, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from wsljax.representation import Features, InvariantPool, Metanetwork, structure
from wsljax.representation.parts.attention_pool import AttentionPool
from wsljax.representation.parts.by_kind import SHARING
from wsljax.representation.parts.channels import ChannelLinear, Gated, Pointwise, Residual
from wsljax.representation.parts.chunks import pieces, rows
from wsljax.representation.parts.dropout import SHAPES, Dropout
from wsljax.representation.parts.norm import LayerNorm
from wsljax.representation.parts.pool import STATISTICS, make_pool
from wsljax.representation.parts.set_attention import SetEncoder

from .specs import SPECS, act, params_of, spec_of

MIXED = spec_of(
    {
        "wh": ((3, 3), "h h"),
        "q": ((3, 2, 2), "h k m[k]"),
        "o": ((2, 2), "k m[k]"),
        "b": ((3,), "h"),
        "d": ((3,), "h"),
        "s": ((), ""),
    }
)
KEY = jax.random.key(0)
ELEMENT = {
    "h": np.array([2, 0, 1]),
    "k": np.array([1, 0]),
    "m": np.array([[0, 1], [1, 0]]),
}


def features(seed: int, channels: int = 4, spec=MIXED) -> dict:
    random = np.random.default_rng(seed)
    shapes = {b.name: [spec.size_of(a) for a in b.labels] for b in structure(spec)}
    return {n: random.normal(size=(*shape, channels)) for n, shape in shapes.items()}


def program(layer, spec=MIXED):
    """Blocks of features through a layer, in numpy; compiled once for each dtype."""
    call = quickly(lambda x: layer(Features.of(structure(spec), x)).blocks())
    return lambda x: {n: np.asarray(v) for n, v in call(x).items()}


def run(layer, x: dict, spec=MIXED) -> dict:
    return program(layer, spec)(x)


def layers() -> dict:
    double = {"dtype": jnp.float64}
    out: dict = {
        f"linear {p}": lambda p=p: ChannelLinear(MIXED, 4, 6, key=KEY, per=p, **double)
        for p in SHARING
    }
    out |= {f"norm {p}": lambda p=p: LayerNorm(MIXED, 4, per=p, **double) for p in SHARING}
    out["norm, not centred"] = lambda: LayerNorm(MIXED, 4, centre=False, **double)
    out["gated"] = lambda: Gated(MIXED, 4, 5, key=KEY, **double)
    out["pointwise"] = lambda: Pointwise(jnp.tanh)
    out["residual"] = lambda: Residual(ChannelLinear(MIXED, 4, 4, key=KEY, **double), 4, scale=0.5)
    for shape in ("channels", "blocks"):
        out[f"dropout {shape}"] = lambda s=shape: functools.partial(Dropout(0.5, shape=s), key=KEY)
    return out


@pytest.mark.parametrize("name", layers())
def test_layers_are_equivariant_and_do_something(name):
    call = program(layers()[name]())
    x, g = features(0), ELEMENT
    y, moved = call(x), call(act(MIXED, g, x))
    for block, expected in act(MIXED, g, y).items():
        np.testing.assert_allclose(moved[block], expected, atol=1e-12)
    other = call(features(1))
    assert max(np.abs(y[n] - other[n]).max() for n in y) > 0.1
    assert any(y[n].shape != x[n].shape or np.abs(y[n] - x[n]).max() > 0.1 for n in y)
    half = call({n: v.astype(jnp.bfloat16) for n, v in x.items()})
    assert {v.dtype for v in half.values()} == {jnp.dtype(jnp.bfloat16)}
    for n in y:
        assert np.abs(half[n].astype(float) - y[n]).max() <= 0.1, n


def test_sharing_of_weights():
    """Blocks of a kind get the same map where it is shared, and only there."""
    x = features(0)
    x["d"] = x["b"]
    for per, same in (("block", False), ("kind", True), ("all", True)):
        y = run(ChannelLinear(MIXED, 4, 4, key=KEY, per=per, dtype=jnp.float64), x)
        assert np.allclose(y["d"], y["b"]) is same
    x["s"] = x["b"][0]
    for per, same in (("kind", False), ("all", True)):
        y = run(ChannelLinear(MIXED, 4, 4, key=KEY, per=per, dtype=jnp.float64), x)
        assert np.allclose(y["s"], y["b"][0]) is same
    with pytest.raises(ValueError, match="`per` must be one of"):
        ChannelLinear(MIXED, 4, 4, key=KEY, per="leaf")
    with pytest.raises(ValueError, match="takes 3"):
        run(ChannelLinear(MIXED, 3, 4, key=KEY), x)
    with pytest.raises(ValueError, match="drawn for"):
        run(LayerNorm(spec_of(SPECS["mlp"]), 4), x)


def test_layer_norm_by_hand():
    x = features(0)
    y = run(LayerNorm(MIXED, 4, dtype=jnp.float64), x)
    for n, v in x.items():
        centred = v - v.mean(-1, keepdims=True)
        expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(y[n], expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_keeps_the_mean_and_drops_together(shape):
    x = {n: np.ones_like(v) for n, v in features(0).items()}
    draw = jax.jit(
        lambda k: Dropout(0.25, shape=shape)(Features.of(structure(MIXED), x), key=k).blocks()
    )
    out = jax.vmap(draw)(jax.random.split(KEY, 800))
    for n, v in out.items():
        v = np.asarray(v)
        assert set(np.unique(v.round(6))) == {0.0, np.round(4 / 3, 6)}
        assert abs(v.mean() - 1) < 0.1, n
        flat = v.reshape(len(v), -1, v.shape[-1])
        together = (flat == flat[:, :1]).all(), (flat == flat[:, :, :1]).all()
        several = flat.shape[1] > 1
        assert (
            together
            == {
                "entries": (not several, False),
                "channels": (True, False),
                "blocks": (True, True),
            }[shape]
        )
    b, d = np.asarray(out["b"]), np.asarray(out["d"])
    assert abs(np.corrcoef(b[:, 0, 0], d[:, 0, 0])[0, 1]) < 0.15  # stacked blocks choose apart
    same = run(Dropout(0.25, shape=shape), x)
    assert all((same[n] == x[n]).all() for n in x)
    with pytest.raises(ValueError, match="`rate`"):
        Dropout(1.0)
    with pytest.raises(ValueError, match="`shape`"):
        Dropout(0.5, shape="units")


@pytest.mark.parametrize("kind", [*STATISTICS, "attention"])
def test_pools_are_invariant_and_see_every_block(kind):
    pool = make_pool(MIXED, 4, key=KEY, kind=kind)
    size = pool.size(4)
    read = lambda x: pool(Features.of(structure(MIXED), x))  # noqa: E731
    call = quickly(read)
    x, g = features(0), ELEMENT
    y = call(x)
    assert y.shape == (size,) and y.dtype == jnp.float64
    moved = call(act(MIXED, g, x))
    np.testing.assert_allclose(moved, y, atol=1e-12)
    for n in x:
        if kind == "std" and x[n].ndim == 1:
            continue  # one entry has no spread
        assert float(jnp.abs(call({**x, n: 2 * x[n] + 1}) - y).max()) > 1e-3, n
    # the diagonal of a repeated kernel is told apart from the rest of it
    swapped = call({**x, "wh": np.roll(x["wh"], 1, 0)})
    assert float(jnp.abs(swapped - y).max()) > 1e-3
    grads = quickly(jax.grad(lambda x: jnp.sum(jnp.sin(read(x)))))(jax.tree.map(np.zeros_like, x))
    assert all(bool(np.isfinite(a).all()) for a in jax.tree.leaves(grads))


def test_statistics_by_hand():
    x = features(0)
    blocks = Features.of(structure(MIXED), {n: jnp.asarray(v) for n, v in x.items()})
    for statistic, f in (("max", np.max), ("std", np.std)):
        out = np.asarray(InvariantPool(MIXED, statistics=(statistic,))(blocks))
        diagonal = x["wh"][np.arange(3), np.arange(3)]
        found = [x["wh"], diagonal, x["q"], x["o"], x["b"], x["d"], x["s"][None]]
        expected = [f(v.reshape(-1, 4), axis=0) for v in found]
        np.testing.assert_allclose(np.sort(out), np.sort(np.concatenate(expected)), atol=2e-8)


def test_attention_pool_is_a_softmax_over_everything():
    """Against queries, keys and values written out for all coordinates side by side."""
    spec = spec_of({"w": ((3, 2), "g h"), "b": ((2,), "h"), "c": ((3,), "g")})
    x = features(0, 4, spec)
    for balanced in (True, False):
        pool = AttentionPool(
            spec, 4, key=KEY, queries=2, heads=2, balanced=balanced, dtype=jnp.float64
        )
        codes = {
            "w": pool.codes["a b"][0, 0],
            "b": pool.codes["a"][0, 0],
            "c": pool.codes["a"][1, 0],
        }
        tokens = np.concatenate([(x[n] + np.asarray(codes[n])).reshape(-1, 4) for n in "wbc"])
        count = np.concatenate([np.full(x[n][..., 0].size, x[n][..., 0].size) for n in "wbc"])
        scores = np.einsum("nc,qhc->qhn", tokens, pool.queries)
        weights = np.exp(scores) / (count if balanced else 1)
        weights /= weights.sum(-1, keepdims=True)
        expected = np.einsum("qhn,nc,hcd->qhd", weights, tokens, pool.values).reshape(-1)
        blocks = Features.of(structure(spec), {n: jnp.asarray(v) for n, v in x.items()})
        np.testing.assert_allclose(pool(blocks), expected, atol=1e-12)
    with pytest.raises(ValueError, match="`heads` divide"):
        AttentionPool(spec, 4, key=KEY, heads=3)
    with pytest.raises(ValueError, match="`pooling` has kind 'median'"):
        make_pool(spec, 4, key=KEY, kind="median")
    with pytest.raises(ValueError, match="`statistics` must be among"):
        InvariantPool(spec, statistics="mean")  # pyright: ignore[reportArgumentType]


def test_attention_pool_reads_other_widths_and_stays_finite():
    spec = spec_of({"w": ((3, 2), "g h"), "b": ((2,), "h")})
    wide = spec_of({"w": ((30, 20), "g h"), "b": ((20,), "h")})
    pool = AttentionPool(spec, 4, key=KEY, dtype=jnp.float64)
    x = {n: 1e3 * v for n, v in features(0, 4, wide).items()}
    out = pool(Features.of(structure(wide), {n: jnp.asarray(v) for n, v in x.items()}))
    assert bool(jnp.isfinite(out).all()) and out.shape == (4,)


def test_chunks_are_cut_and_put_back():
    for name in ("heads", "twice nested", "scanned heads"):
        spec = spec_of(SPECS[name])
        params = params_of(spec, KEY)
        views = [(block, v) for block in spec.layout for v in (*pieces(block, 4), *rows(block))]

        @quickly
        def run(params, spec=spec, views=views):
            blocks = spec.blocks(params)
            cuts = [view.cut(blocks[block.name][..., None]) for block, view in views]
            sums = [jnp.sum(cut, 1, keepdims=True) for cut in cuts]
            puts = [[v.put(x) for x in xs] for (_, v), *xs in zip(views, cuts, sums, strict=True)]
            return blocks, cuts, puts

        blocks, cuts, puts = jax.tree.map(np.asarray, run(params))
        for (block, view), cut, (back, sums) in zip(views, cuts, puts, strict=True):
            x = blocks[block.name][..., None]
            assert cut.shape == (view.chunks, view.length, 1)
            assert (back == x).all() and view.mask().sum() == x.size
            if view.axis >= 0:
                kept = {view.axis, *block.parents[view.axis]}
                other = tuple(k for k in range(len(block.shape)) if k not in kept)
                expected = np.broadcast_to(x.sum(other, keepdims=True), x.shape)
                np.testing.assert_allclose(sums, expected, atol=1e-12)


def test_set_encoder_ignores_order_and_what_is_masked():
    encode = SetEncoder(8, 2, key=KEY, dtype=jnp.float64)
    call = quickly(lambda x, mask: encode(x, mask))
    x = jax.random.normal(KEY, (6, 8), jnp.float64)
    order = jnp.array([3, 1, 5, 0, 2, 4])
    vector, tokens = call(x, jnp.ones(6, bool))
    moved, moved_tokens = call(x[order], jnp.ones(6, bool))
    np.testing.assert_allclose(moved, vector, atol=1e-12)
    np.testing.assert_allclose(moved_tokens, tokens[order], atol=1e-12)
    mask = jnp.arange(6) < 4
    np.testing.assert_allclose(call(x, mask)[0], call(x.at[4:].set(1e3), mask)[0], atol=1e-12)
    np.testing.assert_allclose(call(x, mask)[0], encode(x[:4])[0], atol=1e-12)
    assert float(jnp.abs(call(x.at[0].multiply(-1.0), mask)[0] - call(x, mask)[0]).max()) > 1e-3
    with pytest.raises(ValueError, match="divide the channels"):
        SetEncoder(8, 2, key=KEY, heads=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("kind", [*STATISTICS, "attention"])
def test_pools_on_every_spec(name, kind):
    spec = spec_of(SPECS[name])
    pool = make_pool(spec, 4, key=KEY, kind=kind)
    call = quickly(lambda x: pool(Features.of(structure(spec), x)))
    x = {n: jnp.asarray(v) for n, v in features(0, 4, spec).items()}
    g = {n: np.asarray(p) for n, p in spec.sample(jax.random.key(3)).items()}
    moved = call({n: jnp.asarray(v) for n, v in act(spec, g, x).items()})
    np.testing.assert_allclose(moved, call(x), atol=1e-11)


def test_a_metanetwork_names_its_pool():
    spec = spec_of(SPECS["rnn"])
    pooling = {"kind": "attention", "queries": 2}
    net = Metanetwork(spec, 4, 1, 1, key=KEY, pooling=pooling, dtype=jnp.float64)
    assert net.pool.size(4) == 8
    params = params_of(spec, KEY)
    call = quickly(lambda p: net(p))
    moved = call(spec.act(spec.sample(jax.random.key(1)), params))
    np.testing.assert_allclose(moved, call(params), atol=1e-12)
