"""LayerNorm into RMSNorm: the same outputs, and rotations of the stream that were not there before."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import registry
from wsljax import symmetry
from wsljax.symmetry.rewrite import Places, run

from . import generator_nets as nets

EXACT, BROKEN = 1e-12, 1e-3
D = 5


def two_pass(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * p["gain"] + p["shift"]


@jax.jit
def one_pass(p, x):
    """By the mean of squares less the square of the mean, which is a product with a constant."""
    mean = x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1])
    variance = jnp.mean(x**2, -1, keepdims=True) - mean**2
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["gain"] + p["shift"]


def block(p, x, norm, value_bias=True):
    """Attention with biases for all three of its readers, and an MLP."""
    z = norm(p["n0"], x)
    heads = [jnp.einsum("td,dhk->thk", z, p[n]) + p.get("b" + n, 0) for n in "qkv"]
    scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", *heads[:2]))
    x = x + jnp.einsum("hts,shk,hkd->td", scores, heads[2], p["o"]) + p["bo"]
    return x + jax.nn.gelu(norm(p["n1"], x) @ p["up"] + p["bu"]) @ p["down"]


def weights(seed, **layers):
    """Of one block, stacked if ``layers=n``; gains of the second norm of both signs, one zero."""
    n = tuple(layers.values())
    p = nets.normal(
        seed, q=(*n, D, 2, 2), k=(*n, D, 2, 2), v=(*n, D, 2, 2), o=(*n, 2, 2, D), up=(*n, D, 6),
        down=(*n, 6, D),
    )  # fmt: skip
    p |= nets.normal(seed + 1, bq=(*n, 2, 2), bk=(*n, 2, 2), bv=(*n, 2, 2), bo=(*n, D), bu=(*n, 6))
    for k in range(2):
        p[f"n{k}"] = nets.normal(seed + 2 + k, gain=(*n, D), shift=(*n, D))
    p["n0"]["gain"] = jnp.abs(p["n0"]["gain"]) + 0.5
    p["n1"]["gain"] = p["n1"]["gain"] * jnp.array([1.0, -1.0, 0.0, -2.0, 1.0]) + 0
    return p


def ends(seed):
    return nets.normal(seed, emb=(7, D), head=(D, 3), c=(3,)) | {
        "n": nets.normal(seed + 1, gain=(D,), shift=(D,))
    }


def transformer(norm=one_pass, without=()):
    def fn(p, tokens):
        x = block(p["block"], p["emb"][tokens], norm)
        return norm(p["n"], x) @ p["head"] + p["c"]

    inner = {k: v for k, v in weights(20).items() if k not in without}
    return fn, ends(30) | {"block": inner}, jnp.array([0, 3, 6, 1, 2, 5, 4, 3])


def scanned():
    """Two blocks along an axis, recomputed in the backward pass."""

    def fn(p, tokens):
        step = jax.checkpoint(lambda x, q: (block(q, x, two_pass), None))
        x = jax.lax.scan(step, p["emb"][tokens], p["blocks"])[0]
        return two_pass(p["n"], x) @ p["head"] + p["c"]

    return fn, ends(40) | {"blocks": weights(50, layers=2)}, jnp.array([0, 3, 6, 1, 2, 5, 4, 3])


def linen():
    importlib.import_module("tests.architectures.linen_transformer")
    fn, p, (x,) = registry.CASES["linen/gpt_untied"].build(jax.random.key(0))
    return fn, jax.tree.map(lambda a: a.astype("float64"), p), x


#: A key bias does not matter and need not be there; all other readers have one.
NETS = {
    "mlp": nets.layer_norm,
    "transformer": functools.partial(transformer, without=("bk",)),
    "scanned": scanned,
    "linen": linen,
}


EACH = [pytest.param(n, marks=[pytest.mark.slow] * (n == "scanned")) for n in NETS]


@functools.cache
def ready(name):
    fn, params, x = NETS[name]()
    return fn, params, x, symmetry.fold_norms(fn, params, x)


def change(old, new):
    return float(jnp.max(jnp.abs(new - old)) / jnp.std(old))


@pytest.mark.parametrize("name", EACH)
def test_the_same_function(name):
    """At these weights and at others of the architecture; in a tree of the same structure."""
    fn, p, x, folded = ready(name)
    old, new = jax.jit(fn), jax.jit(folded.fn)
    assert change(old(p, x), new(folded.params, x)) < EXACT
    assert jax.tree.structure(folded.params) == jax.tree.structure(p)
    kinds = [(a.shape, a.dtype) for a in jax.tree.leaves(p)]
    assert kinds == [(a.shape, a.dtype) for a in jax.tree.leaves(folded.params)]
    other = jax.tree.map(lambda a: 1.3 * a + 0.1 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), p)
    assert change(old(other, x), new(folded.fold(other), x)) < EXACT
    assert change(old(p, x), new(p, x)) > BROKEN  # control: it is another function elsewhere


@pytest.mark.parametrize("name", EACH)
def test_the_stream_may_be_rotated(name, key):
    """With the folded function and weights; not with the original function, nor the original weights."""
    fn, p, x, folded = ready(name)
    spec = symmetry.infer(folded.fn, folded.params, x, kinds=None)
    size = {"mlp": 5, "linen": 8}.get(name, D)
    (turn,) = (g for g in spec.generators if g.kind == "orthogonal" and g.size == size)
    g = {turn.name: turn.draw(key)}
    old, new = jax.jit(fn), jax.jit(folded.fn)
    y = old(p, x)
    assert change(y, new(spec.act(g, folded.params), x)) < EXACT
    assert change(y, old(spec.act(g, folded.params), x)) > BROKEN
    assert change(y, old(spec.act(g, p), x)) > BROKEN


def test_gains_are_one_and_shifts_zero():
    """Where they are zero or negative too: nothing is divided by them."""
    _, p, _, folded = ready("transformer")
    for n in (folded.params["block"]["n0"], folded.params["block"]["n1"], folded.params["n"]):
        assert jnp.all(n["gain"] == 1) and jnp.all(n["shift"] == 0)
    assert not np.all(p["block"]["n1"]["gain"]) and folded.left == ()
    assert jnp.all(folded.params["block"]["up"][2] == 0)
    for name, axis in (("emb", 1), ("block.o", 2), ("block.bo", 0), ("block.down", 1)):
        at = functools.reduce(lambda tree, k: tree[k], name.split("."), folded.params)
        assert float(jnp.max(jnp.abs(at.mean(axis)))) < 1e-15


def test_an_ordinary_function():
    """Jit, gradients in the inputs, other batches, single precision, a population."""
    fn, p, x, folded = ready("mlp")
    more = nets.inputs(31, 3, seed=5)
    old, new = (
        jax.jit(jax.grad(lambda x, f=f, q=q: jnp.sum(f(q, x) ** 2)))(more)
        for f, q in ((fn, p), (folded.fn, folded.params))
    )
    assert change(old, new) < 1e-11
    single = jax.tree.map(lambda a: a.astype("float32"), p)
    y = folded.fn(folded.fold(single), more.astype("float32"))
    assert y.dtype == "float32" and change(fn(p, more), y) < 1e-4
    many = jax.tree.map(lambda a: jnp.stack([a, -0.5 * a, 2 * a]), p)
    y = jax.vmap(folded.fn, (0, None))(jax.jit(jax.vmap(folded.fold))(many), more)
    assert change(jax.vmap(fn, (0, None))(many, more), y) < EXACT
    g = jax.grad(lambda q: jnp.sum(folded.fn(q, more) ** 2))(folded.params)
    assert all(bool(jnp.all(jnp.isfinite(a))) for a in g.values()) and jnp.all(g["g"] == 0)


def test_single_precision_weights():
    fn, p, x = nets.layer_norm()
    p, x = jax.tree.map(lambda a: a.astype("float32"), (p, x))
    folded = symmetry.fold_norms(fn, p, x)
    assert change(fn(p, x), folded.fn(folded.params, x)) < 1e-4
    assert all(a.dtype == "float32" for a in folded.params.values())


def test_readers_without_a_bias_keep_the_shift():
    """They read it turned with the rest; where the gain is zero too, that stays as well."""
    fn, p, x = nets.layer_norm()

    def unbiased(p, x):
        return fn(p | {"b1": 0.0}, x)

    p = {k: v for k, v in p.items() if k != "b1"}
    folded = symmetry.fold_norms(unbiased, p, x)
    assert change(unbiased(p, x), folded.fn(folded.params, x)) < EXACT
    assert folded.left == ("s: not all of its readers w1 have a bias",)
    assert jnp.all(folded.params["g"] == 1)
    np.testing.assert_allclose(folded.params["s"], p["s"] / p["g"], rtol=1e-12)
    zero = p | {"g": p["g"].at[1].set(0)}
    folded = symmetry.fold_norms(unbiased, zero, x)
    assert change(unbiased(zero, x), folded.fn(folded.params, x)) < EXACT
    assert folded.left[1] == "g: zero in places, beside a shift that stays"
    assert jnp.all(folded.params["g"] == zero["g"])


def test_what_does_not_vanish_is_named():
    """The second norm reads inputs as they are, beside a first that reads a dense layer."""

    def fn(p, x):
        n = {"gain": p["g"], "shift": p["s"]}
        h = two_pass(n, x @ p["w0"]) @ p["w1"] + p["b1"]
        return two_pass({"gain": 1.0, "shift": 0.0}, h + x[:, :5]) @ p["w2"]

    p = nets.normal(3, w0=(6, 5), g=(5,), s=(5,), w1=(5, 5), b1=(5,), w2=(5, 2))
    x = nets.inputs(12, 6)
    folded = symmetry.fold_norms(fn, p, x)
    assert change(fn(p, x), folded.fn(folded.params, x)) < EXACT
    assert len(folded.left) == 1 and "a sum of 5 at" in folded.left[0], folded.left


def test_errors():
    fn, p, x = nets.mlp(jax.nn.relu)
    with pytest.raises(
        ValueError, match="no mean in the function vanishes.*no leaf that may be centred"
    ):
        symmetry.fold_norms(fn, p, x)
    with pytest.raises(ValueError, match="params: 'b0' is a ShapeDtypeStruct; .* needs values"):
        symmetry.fold_norms(fn, jax.eval_shape(lambda: p), x)

    def raw(p, x):
        return two_pass({"gain": p["g"], "shift": 0}, x) @ p["w"]

    with pytest.raises(ValueError, match="a sum of 3 at"):
        symmetry.fold_norms(raw, nets.normal(0, g=(3,), w=(3, 2)), nets.inputs(9, 3))

    def looped(p, x):
        """One norm for each row that there is."""
        return jnp.stack([fn(p, row[None])[0] for row in x])

    fn, p, x = nets.layer_norm()
    folded = symmetry.fold_norms(looped, p, x[:2])
    assert change(looped(p, x[:2]), folded.fn(folded.params, x[:2])) < EXACT
    with pytest.raises(ValueError, match="runs through other sums"):
        folded.fn(folded.params, x[:3])


def test_running_again_with_changes():
    """Sines made into cosines, wherever they are."""

    def fn(f, x, n):
        x = jax.jit(lambda x: f(x) + 1)(x)
        x = jax.checkpoint(lambda x: 2 * f(x))(x)
        x, ys = jax.lax.scan(lambda c, a: (f(c) * a, c), x, jnp.array([0.3, 0.7, 1.9]))
        x = jax.lax.while_loop(lambda c: c[1] < n, lambda c: (f(c[0]), c[1] + 1), (x, 0))[0]
        x = jax.lax.cond(n > 3, lambda x: f(x) ** 2, lambda x: x, x)
        x = jax.nn.relu(f(x)) + jax.nn.silu(x)
        return x, ys

    x = jnp.linspace(0.1, 2.0, 5)
    places = Places(lambda eqn: eqn.primitive.name == "sin")

    def cosine(path, eqn, values):
        return [jnp.cos(values[0])], jnp.max(jnp.abs(values[0]))

    def changed(x, n, wanted=None):
        jaxpr = jax.make_jaxpr(functools.partial(fn, jnp.sin))(x, n)
        return run(jaxpr, [x, n], places, cosine, wanted)

    for n in (2, 6):
        (y, ys), notes = jax.jit(changed)(x, n)
        expected = fn(jnp.cos, x, n)
        np.testing.assert_allclose(y, expected[0], rtol=1e-12)
        np.testing.assert_allclose(ys, expected[1], rtol=1e-12)
        assert len(notes) == 6 and (float(min(notes.values())) == 0) == (n < 4)
        gradient = jax.grad(lambda x, n=n: changed(x, n)[0][1].sum())(x)
        np.testing.assert_allclose(gradient, jax.grad(lambda x, n=n: fn(jnp.cos, x, n)[1].sum())(x))
    np.testing.assert_allclose(changed(x, 2, frozenset())[0][0], fn(jnp.sin, x, 2)[0])
    first, *_ = sorted(notes)
    y = changed(x, 2, frozenset({first}))[0][0]
    assert float(jnp.max(jnp.abs(y - fn(jnp.sin, x, 2)[0]))) > BROKEN
