"""Canonical forms: the same for every network of an orbit, and the same function."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.understanding.canonical import NotCanonicalWarning, canonicalise


def small_conv():
    """Two convolutions, pooled, flattened: channels in a product with places."""

    def fn(p, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        conv = lambda v, w: jax.lax.conv_general_dilated(  # noqa: E731
            v, w, (1, 1), "SAME", dimension_numbers=numbers
        )
        h = jax.nn.relu(conv(x, p["k0"]) + p["b0"])
        h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = jax.nn.relu(conv(h, p["k1"]) + p["b1"])
        return h.reshape(len(h), -1) @ p["w"]

    p = nets.normal(0, k0=(2, 2, 1, 3), b0=(3,), k1=(2, 2, 3, 4), b1=(4,), w=(16, 2))
    return fn, p, nets.inputs(4, 4, 4, 1)


def stacked():
    """A scanned stack of residual layers: hidden units independent in each layer."""

    def fn(p, x):
        def layer(h, w):
            return h + jnp.tanh(h @ w["a"] + w["c"]) @ w["b"], None

        return jax.lax.scan(layer, x @ p["in"], p["layers"])[0] @ p["out"]

    layers = nets.normal(1, a=(3, 4, 5), c=(3, 5), b=(3, 5, 4))
    return (
        fn,
        {"layers": layers} | nets.normal(2, **{"in": (3, 4), "out": (4, 2)}),
        nets.inputs(9, 3),
    )


def experts():
    """A mixture of ReLU networks: experts, and units in each."""

    def fn(p, x):
        gate = jax.nn.softmax(x @ p["gate"])
        h = jax.nn.relu(jnp.einsum("td,edh->teh", x, p["up"]) + p["b"])
        return jnp.einsum("te,teh,eho->to", gate, h, p["down"])

    return (
        fn,
        nets.normal(3, gate=(3, 4), up=(4, 3, 5), b=(4, 5), down=(4, 5, 2)),
        nets.inputs(9, 3),
    )


NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "tanh": functools.partial(nets.mlp, jnp.tanh),
    "sine": functools.partial(nets.mlp, jnp.sin),
    "sigmoid": functools.partial(nets.mlp, jax.nn.sigmoid),
    "convolution": nets.convolution,
    "small conv": small_conv,
    "attention": functools.partial(nets.attention, True),
    "rotary attention": functools.partial(nets.attention, True, True),
    "transformer": nets.transformer,
    "batch norm in inference": functools.partial(nets.batch_norm, False),
    "layer norm": nets.layer_norm,
    "radial": nets.radial,
    "lora": nets.lora,
    "lstm": nets.lstm,
    "stack": stacked,
    "experts": experts,
}


@functools.cache
def ready(name):
    fn, p, x = NETS[name]()
    return fn, p, x, symmetry.infer(fn, p, x, kinds=None)


def far(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y))) for x, y in pairs)


QUICK = ["relu", "tanh", "small conv", "attention", "experts"]
LONG = [pytest.param(n, marks=pytest.mark.slow) for n in NETS if n not in QUICK]


@pytest.mark.parametrize("name", QUICK + LONG)
def test_constant_on_orbits(name, key):
    """For random elements of the whole group; nothing is left open (that would warn, and so fail)."""
    fn, p, x, spec = ready(name)
    run, act, draw = jax.jit(fn), jax.jit(spec.act), jax.jit(spec.sample)
    form = canonicalise(p, spec)
    assert far(spec.act(form.element, p), form.params) == 0
    assert far(run(form.params, x), run(p, x)) < 1e-10 * (1 + float(jnp.max(jnp.abs(run(p, x)))))
    ways = []
    for k in range(3):
        moved = act(draw(jax.random.fold_in(key, k)), p)
        ways.append(far(moved, p))
        assert far(canonicalise(moved, spec).params, form.params) < 1e-8
    assert max(ways) > 1e-2
    again = canonicalise(form.params, spec)
    assert far(again.params, form.params) < 1e-8
    other = jax.tree.map(lambda v: v + 0.01 * jnp.cos(jnp.arange(v.size)).reshape(v.shape), p)
    assert far(canonicalise(other, spec).params, form.params) > 1e-4  # another orbit, another form


def test_what_the_forms_are():
    """Balanced, positive, sorted, centred: read off one by one."""
    _, p, _, spec = ready("relu")
    w = canonicalise(p, spec).params
    into = jnp.sum(w["w0"] ** 2, 0) + w["b0"] ** 2
    assert far(into, jnp.sum(w["w1"] ** 2, 1)) < 1e-10
    _, p, _, spec = ready("attention")
    w = canonicalise(p, spec).params
    assert far(w["bk"], 0 * w["bk"]) == 0 and far(w["bv"], 0 * w["bv"]) < 1e-15
    q = jnp.concatenate([w["q"], w["bq"][None]])
    grams = [jnp.einsum("dha,dhb->hab", m, m) for m in (q, w["k"])]
    assert far(grams[0], grams[1]) < 1e-10  # U sqrt(S) and V sqrt(S)
    assert far(grams[0] * (1 - jnp.eye(3)), 0 * grams[0]) < 1e-10
    assert jax.tree.map(jnp.shape, w) == jax.tree.map(jnp.shape, p)
    _, p, _, spec = ready("transformer")
    w = canonicalise(p, spec).params
    assert all(far(w[n], jnp.ones(4)) < 1e-12 for n in ("g1", "g2", "g3"))


def test_more_dimensions_per_head_than_there_are(key):
    """Heads wider than the model: the rank is that of the product, and the form still unique."""

    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        return jnp.einsum("hts,shk,hkd->td", scores, v, p["o"])

    p = nets.normal(5, q=(2, 2, 4), k=(2, 2, 4), v=(2, 2, 4), o=(2, 4, 2))
    x = nets.inputs(6, 2)
    spec = symmetry.infer(fn, p, x, kinds=None)
    form = canonicalise(p, spec)
    assert far(fn(form.params, x), fn(p, x)) < 1e-10
    moved = spec.act(spec.sample(key), p)
    assert far(canonicalise(moved, spec).params, form.params) < 1e-8


def test_duplicated_and_dead_units(key):
    """Copies may stand in any order; nothing is reported."""
    fn, p, x, spec = ready("relu")
    p = dict(p)
    for n, axis in (("w0", 1), ("b0", 0), ("w1", 0)):
        p[n] = jnp.moveaxis(jnp.moveaxis(p[n], axis, 0).at[1].set(jnp.take(p[n], 3, axis)), 0, axis)
    p["w2"] = p["w2"].at[0].set(0.0)
    moved = spec.act(spec.sample(key), p)
    form = canonicalise(p, spec)
    assert far(canonicalise(moved, spec).params, form.params) < 1e-8
    assert far(fn(form.params, x), fn(p, x)) < 1e-10


def test_float32(key):
    fn, p, x, spec = ready("attention")
    p = jax.tree.map(lambda v: v.astype("float32"), p)
    form = canonicalise(p, spec)
    assert {v.dtype for v in jax.tree.leaves(form.params)} == {jnp.dtype("float32")}
    moved = spec.act(spec.sample(key), p)
    assert far(canonicalise(moved, spec).params, form.params) < 1e-3
    assert far(fn(form.params, x.astype("float32")), fn(p, x.astype("float32"))) < 1e-4


def test_what_is_open_is_reported():
    _, p, x = nets.mlp(lambda v: v)
    fn = lambda p, x: ((x @ p["w0"]) @ p["w1"]) @ p["w2"]  # noqa: E731
    p = {n: p[n] for n in ("w0", "w1", "w2")}
    spec = symmetry.infer(fn, p, x, kinds=None)
    with pytest.warns(NotCanonicalWarning, match="different ranks"):
        canonicalise(p, spec)
    with pytest.raises(ValueError, match="different ranks"):
        canonicalise(p, spec, unresolved="raise")
    same = canonicalise(p, spec, unresolved="ignore")
    assert far(fn(same.params, x), fn(p, x)) < 1e-10


def test_eigenvalues_that_tie_are_reported():
    # a basis that eigenvalues leave open
    fn, p, x, spec = ready("radial")
    equal = p | {"w0": jnp.eye(4, 3), "b0": jnp.zeros(3), "w1": jnp.zeros((3, 2))}
    with pytest.warns(NotCanonicalWarning, match="eigenvalues tie"):
        canonicalise(equal, spec)


def test_units_that_tie_without_being_copies():
    """A ring of alike units: refinement cannot tell them apart, and says so."""
    ring = jnp.roll(jnp.eye(6), 1, 1)
    p = {"i": jnp.ones((2, 6)), "w": ring, "o": jnp.ones((6, 2))}
    spec = symmetry.parse(p, {"i": "_ h", "w": "h h", "o": "h _"})
    with pytest.warns(NotCanonicalWarning, match="tie in their surroundings"):
        form = canonicalise(p, spec)
    moved = spec.act(spec.sample(jax.random.key(3)), p)
    assert far(canonicalise(moved, spec, unresolved="ignore").params, form.params) == 0


def test_misuse():
    _, p, _, spec = ready("relu")
    with pytest.raises(ValueError, match="unresolved"):
        canonicalise(p, spec, unresolved="maybe")
    with pytest.raises(ValueError, match="outside of jit"):
        jax.jit(lambda w: canonicalise(w, spec).params)(p)
    with pytest.raises(ValueError, match="'b0' has NaN"):
        canonicalise(p | {"b0": p["b0"].at[0].set(jnp.nan)}, spec)
    with pytest.raises(ValueError, match="do not match"):
        canonicalise({"w": p["w0"]}, spec)


def test_kinds_of_a_spec_restrict_the_form(key):
    """A spec of permutations alone sorts, and moves nothing else."""
    _, p, _, spec = ready("relu")
    only = dataclasses.replace(spec, generators=())
    form = canonicalise(p, only)
    assert np.sort(np.ravel(form.params["w1"])).tolist() == np.sort(np.ravel(p["w1"])).tolist()
    moved = only.act(only.sample(key), p)
    assert far(canonicalise(moved, only).params, form.params) == 0
