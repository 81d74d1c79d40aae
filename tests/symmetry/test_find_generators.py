"""What ``infer`` finds beyond permutations, against what is known of each network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry

from . import generator_nets as nets

EXACT, BROKEN = 1e-12, 1e-3
NETS = {
    "relu": functools.partial(nets.mlp, jax.nn.relu),
    "leaky": functools.partial(nets.mlp, nets.leaky),
    "relu squared": functools.partial(nets.mlp, lambda v: jax.nn.relu(v) ** 2),
    "abs": functools.partial(nets.mlp, jnp.abs),
    "tanh": functools.partial(nets.mlp, jnp.tanh),
    "sine": functools.partial(nets.mlp, jnp.sin),
    "sine of frequency 30": functools.partial(nets.mlp, lambda v: jnp.sin(30 * v)),
    "cosine": functools.partial(nets.mlp, jnp.cos),
    "sigmoid": functools.partial(nets.mlp, jax.nn.sigmoid),
    "gelu": functools.partial(nets.mlp, jax.nn.gelu),
    "linear": functools.partial(nets.mlp, lambda v: v),
    "attention": functools.partial(nets.attention, False),
    "attention with biases": functools.partial(nets.attention, True),
    "packed attention": nets.packed_attention,
    "centred attention": nets.centred_attention,
    "rotary attention": functools.partial(nets.attention, True, True),
    "transformer": nets.transformer,
    "batch norm in training": functools.partial(nets.batch_norm, True),
    "batch norm in inference": functools.partial(nets.batch_norm, False),
    "layer norm": nets.layer_norm,
    "layer norm transformer": nets.layer_norm_transformer,
    "layer norms but the last": functools.partial(nets.layer_norm_transformer, False),
    "radial": nets.radial,
    "gated": nets.gated,
    "classifier": nets.classifier,
    "lstm": nets.lstm,
    "convolution": nets.convolution,
    "lora": nets.lora,
}
in_0 = {"w0.1": 1, "b0.0": 1}
in_1 = {"w1.1": 1, "b1.0": 1}
SCALES = [("scale", in_0 | {"w1.0": -1}), ("scale", in_1 | {"w2.0": -1})]
ODD = [("sign", in_0 | {"w1.0": 1}), ("sign", in_1 | {"w2.0": 1})]
EVEN = [("sign", in_0), ("sign", in_1)]
PHASES = [("phase", {"b0": 1, "w1.0": 1}), ("phase", {"b1": 1, "w2.0": 1})]
HEADS = [("linear", {"q.2": 1, "k.2": -1}), ("linear", {"v.2": 1, "o.1": -1})]
VALUES = ("linear", {"v.2": 1, "bv.1": 1, "o.1": -1})
#: By hand: the kind, and the exponent at each place ``block.axis``.
EXPECTED = {
    "relu": SCALES,
    "leaky": SCALES,
    "relu squared": [("scale", in_0 | {"w1.0": -2}), ("scale", in_1 | {"w2.0": -2})],
    "abs": SCALES + EVEN,
    "tanh": ODD,
    "sine": ODD + PHASES,
    "cosine": EVEN + PHASES,
    "sine of frequency 30": ODD + PHASES,
    "sigmoid": ODD,
    "gelu": [],
    "linear": [
        ("linear", in_0 | {"w1.0": -1}),
        ("linear", in_1 | {"w2.0": -1}),
        ("shift", {"b0": 1}),
        ("shift", {"b1": 1}),
    ],
    "attention": HEADS,
    "attention with biases": [
        ("linear", {"q.2": 1, "bq.1": 1, "k.2": -1}),
        VALUES,
        ("shift", {"bk": 1}),
        ("shift", {"bv": 1}),
    ],
    "packed attention": [
        ("linear", {"qkv#0.3[1=0]": 1, "b#0.2[0=0]": 1, "qkv#0.3[1=1]": -1}),
        ("linear", {"qkv#1.3": 1, "b#1.2": 1, "o.1": -1}),
        ("shift", {"b#0 [0=1]": 1}),
        ("shift", {"b#1": 1}),
    ],
    "rotary attention": [
        ("linear", {"q.2": 1, "bq.1": 1, "k.2": -1, "bk.1": -1}),
        VALUES,
        ("shift", {"bv": 1}),
    ],
    "transformer": [
        *HEADS,
        ("scale", {"g1.0": 1, "q.0": -1, "k.0": -1, "v.0": -1}),
        ("scale", {"g2.0": 1, "w1.0": -1}),
        ("scale", {"g3.0": 1, "head.0": -1}),
        ("sign", {"g1.0": 1, "q.0": 1, "k.0": 1, "v.0": 1}),
        ("sign", {"g2.0": 1, "w1.0": 1}),
        ("sign", {"g3.0": 1, "head.0": 1}),
        (
            "orthogonal",
            {n: 1 for n in "emb.1 q.0 k.0 v.0 o.2 w1.0 w2.1 head.0".split()},
        ),
        ("uniform", {"emb": 1, "v": 1, "w2": 1}),
    ],
    "batch norm in training": [
        ("scale", {"w0.1": 1}),
        ("scale", {"g.0": 1, "s.0": 1, "w1.0": -1}),
        ("sign", {"w0.1": 1, "g.0": 1}),
        ("shift", {"b0": 1}),
    ],
    "layer norm": [
        ("scale", {"g.0": 1, "s.0": 1, "w1.0": -1}),
        ("sign", {"g.0": 1, "s.0": 1, "w1.0": 1}),
        ("sign", {"b1.0": 1, "w1.1": 1, "w2.0": 1}),
        ("orthogonal", {"w0.1": 1, "b0.0": 1, "s.0": 1, "w1.0": 1}),
        ("uniform", {"w0": 1, "b0": 1}),
        ("shift", {"b0 0": 1}),
        ("shift", {"w0 1": 1}),
        ("shift", {"w1 0": 1}),
        ("shift", {"s": 1}),
    ],
    "batch norm in inference": [
        ("scale", {"w0.1": 1, "b0.0": 1, "mean.0": 1, "s.0": 1, "w1.0": -1}),
        ("scale", {"g.0": 1, "s.0": 1, "w1.0": -1}),
        ("scale", {"w0.1": 1, "b0.0": 1, "mean.0": 1, "var.0": 2}),
        ("shift", {"b0": 1}),
        ("shift", {"b0": 1}),
    ],
    "radial": [("orthogonal", {"w0.1": 1, "b0.0": 1, "w1.0": 1})],
    "gated": [
        ("scale", {"wv.1": 1, "bv.0": 1, "wo.0": -1}),
        ("sign", {"wv.1": 1, "bv.0": 1, "wo.0": 1}),
    ],
    "classifier": [SCALES[0], ("shift", {"b1 0": 1}), ("shift", {"w1 1": 1})],
    "convolution": [
        ("scale", {"k0.3": 1, "b0.0": 1, "k1.2": -1, "k1.3": 1, "b1.0": 1, "w.0": -1}),
    ],
    "lora": [("linear", {"a.1": 1, "b.0": -1})],
}
#: Directions explained, and all there are. What is missing where they differ: where only the last reader sees
#: the mean of the stream, that mean may be scaled (1), be mixed with the other coordinates (3), and be moved by
#: the first output bias (1).
COMPLETE = {
    "leaky": (9, 9),
    "tanh": (0, 0),
    "sine": (0, 0),
    "linear": (46, 46),
    "attention": (36, 36),
    "attention with biases": (48, 48),
    "packed attention": (48, 48),
    "rotary attention": (8 + 18 + 6, 32),
    "transformer": (35, 35),
    "batch norm in training": (15, 15),
    "batch norm in inference": (25, 25),
    "layer norm": (25, 25),
    "layer norm transformer": (84, 84),
    "layer norms but the last": (63, 68),
    "radial": (3, 3),
    "gated": (5, 5),
    "classifier": (11, 11),
    "lstm": (0, 0),
    "convolution": (3, 3),
    "lora": (4, 4),
}


LONG = {"layer norm transformer", "centred attention"}


def each(names):
    """Names, those that take long marked so."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in names]


@functools.cache
def ready(name):
    fn, params, x = NETS[name]()
    spec = symmetry.infer(fn, params, x, kinds=None)
    return fn, jax.jit(fn), params, x, spec


def change(run, params, moved, x):
    old, new = run(params, x), run(moved, x)
    return float(jnp.max(jnp.abs(new - old)) / jnp.std(old))


def described(g):
    """Kind and exponents, with the sign that makes the larger number of them positive."""
    if g.kind == "phase":
        return g.kind, {g.target: 1.0} | {f"{t.block}.{t.axis}": 1.0 for t in g.terms}
    if g.kind == "shift":
        return g.kind, {" ".join([g.target, *map(str, g.constant), *in_part(g)]): 1.0}
    axes = ("" if t.axis is None else f".{t.axis}" for t in g.terms)
    return g.kind, {
        t.block + axis + "".join(in_part(t)): t.exponent
        for t, axis in zip(g.terms, axes, strict=True)
    }


def in_part(x):
    return [f"[{k}={i}]" for k, i in x.part]


def same(a, b):
    if a[0] != b[0]:
        return False
    flipped = {k: -v for k, v in a[1].items()}
    return a[1] == b[1] or (a[0] in ("scale", "linear", "uniform") and flipped == b[1])


@pytest.mark.parametrize("name", each(EXPECTED))
def test_found(name):
    """Kind, places and exponents of every generator, and no other."""
    *_, spec = ready(name)
    found = [described(g) for g in spec.generators]
    missing = [e for e in EXPECTED[name] if not any(same(e, f) for f in found)]
    spare = [f for f in found if not any(same(e, f) for e in EXPECTED[name])]
    assert not missing and not spare, f"missing {missing}, spare {spare}\n{spec}"


@pytest.mark.parametrize("name", each(NETS))
def test_exact(name, key):
    """Random elements leave the function alone; with any place left out, or the wrong power, not."""
    _, run, params, x, spec = ready(name)
    for i, g in enumerate(spec.generators):
        element = {g.name: g.draw(jax.random.fold_in(key, i))}
        if g.kind == "sign":
            element = {g.name: -jnp.ones(g.shape, jnp.int32)}
        if g.kind == "phase":
            assert g.step == pytest.approx(np.pi / (30 if "30" in name else 1), rel=1e-9)
            element = {g.name: jnp.ones(g.shape, jnp.int32)}
        assert change(run, params, spec.act(element, params), x) < EXACT, g
        for k in range(
            len(g.terms) if len(g.terms) + len(g.carries) > 1 or g.kind == "phase" else 0
        ):
            lacking = dataclasses.replace(g, terms=g.terms[:k] + g.terms[k + 1 :])
            other = dataclasses.replace(spec, generators=(lacking,))
            wrong = change(run, params, other.act(element, params), x)
            assert wrong > BROKEN, f"{g.terms[k]} of {g.name} does not matter"
        if g.carries:
            other = dataclasses.replace(spec, generators=(dataclasses.replace(g, carries=()),))
            assert change(run, params, other.act(element, params), x) > BROKEN, g
        if g.kind == "linear":
            swapped = tuple(dataclasses.replace(t, exponent=1.0) for t in g.terms)
            other = dataclasses.replace(spec, generators=(dataclasses.replace(g, terms=swapped),))
            assert change(run, params, other.act(element, params), x) > BROKEN, g


@pytest.mark.parametrize("name", each(NETS))
def test_group(name, key):
    """Composition and inverse, permutations included; and ``check`` agrees that nothing changes."""
    fn, run, params, x, spec = ready(name)
    act, sample = jax.jit(spec.act), jax.jit(spec.sample)
    g1, g2 = sample(key), sample(jax.random.fold_in(key, 1))
    once = act(g1, params)
    assert change(run, params, once, x) < 1e-10
    for a, b in (
        (act(jax.jit(spec.compose)(g2, g1), params), act(g2, once)),
        (act(jax.jit(spec.inverse)(g1), once), params),
    ):
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(u, v, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", each(COMPLETE))
def test_complete(name):
    """The certificate: as many directions as the Jacobian leaves free."""
    fn, _, params, x, spec = ready(name)
    assert symmetry.completeness(fn, params, spec, x) == COMPLETE[name]


def test_a_carry_through_a_kernel_that_may_be_shifted_is_centred():
    """Else the two shifts would not commute: the value bias would carry the kernel's shift along."""
    *_, spec = ready("centred attention")
    shifts = {g.target: g for g in spec.generators if g.kind == "shift"}
    assert shifts["o"].constant and shifts["bo"].constant
    (carry,) = shifts["bv"].carries
    assert (carry.bias, carry.weight, carry.centre) == ("bo", "o", (0,))


def test_completeness_sees_what_is_missing():
    fn, _, params, x, spec = ready("leaky")
    fewer = dataclasses.replace(spec, generators=spec.generators[1:])
    assert symmetry.completeness(fn, params, fewer, x) == (4, 9)
    none = dataclasses.replace(spec, generators=())
    assert symmetry.completeness(fn, params, none, x) == (0, 9)


def test_stabilisers_are_not_counted():
    """A unit of no weights is left where it is by its scaling."""
    fn, _, params, x, spec = ready("leaky")
    dead = params | {k: params[k].at[..., 0].set(0) for k in ("w0", "b0")}
    dead["w1"] = params["w1"].at[0].set(0)
    explained, nullity = symmetry.completeness(fn, dead, spec, x)
    assert explained == 8 and nullity > 9


def test_under_rotary_positions_planes_turn_and_nothing_more(key):
    """All of GL(4) per head would be wrong, and so would a shift of the key bias."""
    _, run, params, x, spec = ready("rotary attention")
    (planes,) = (g for g in spec.generators if getattr(g, "pairs", ()))
    assert planes.pairs == ((0, 2), (1, 3)) and planes.over == (spec.units[0].name,)
    full = dataclasses.replace(planes, pairs=())
    other = dataclasses.replace(spec, generators=(full,))
    assert change(run, params, other.act({full.name: full.draw(key)}, params), x) > BROKEN
    assert not [g for g in spec.generators if g.kind == "shift" and g.target == "bk"]
    assert [g for g in spec.generators if g.kind == "shift" and g.target == "bv"]
    assert any(same(VALUES, described(g)) for g in spec.generators)


def test_balance_by_scaling():
    """Saul 2023: the scaling that makes what enters a unit as large as what leaves it."""
    fn, run, params, x, spec = ready("leaky")
    p = params
    for _ in range(200):
        for g, into, out in (("scale:h0", ("w0", "b0"), "w1"), ("scale:h1", ("w1", "b1"), "w2")):
            incoming = sum(jnp.sum(p[n] ** 2, tuple(range(p[n].ndim - 1))) for n in into)
            s = (jnp.sum(p[out] ** 2, 1) / incoming) ** 0.25
            (gen,) = (e for e in spec.generators if e.name == g)
            sign = next(t.exponent for t in gen.terms if t.block == into[0])
            p = spec.act({g: s**sign}, p)
    assert change(run, params, p, x) < EXACT
    incoming = jnp.sum(p["w0"] ** 2, 0) + p["b0"] ** 2
    np.testing.assert_allclose(incoming, jnp.sum(p["w1"] ** 2, 1), rtol=1e-10)


def test_shapes_only_are_reported_as_skipped():
    fn, _, params, x, spec = ready("leaky")
    shapes = jax.eval_shape(lambda *a: a, params, x)
    abstract = symmetry.infer(fn, *shapes, kinds=None)
    assert abstract.generators == () and abstract.units == spec.units
    assert "only shapes were given" in str(abstract)
    few = symmetry.infer(fn, params, x, kinds=("permutation", "sign"))
    assert few.generators == () and few.skipped == ()
    assert symmetry.infer(fn, *shapes, kinds=("permutation",)).skipped == ()


def test_what_cannot_run_in_float64_is_reported():
    def fn(p, x):
        return jax.lax.dot(x, p["w0"].view("int32").view("float32")) @ p["w1"]

    p = {"w0": jnp.ones((2, 3), "float32"), "w1": jnp.ones((3, 2), "float32")}
    spec = symmetry.infer(fn, p, jnp.ones((4, 2), "float32"), kinds=None)
    assert spec.generators == () and "generators scale" in spec.skipped[0]


def test_float32_inside_is_searched_with_its_tolerance():
    def fn(p, x):
        p = jax.tree.map(lambda v: v.astype("float32"), p)
        return nets.leaky(x.astype("float32") @ p["w0"] + p["b0"]) @ p["w1"]

    p = nets.normal(0, w0=(3, 5), b0=(5,), w1=(5, 2))
    spec = symmetry.infer(fn, p, nets.inputs(12, 3), kinds=None)
    assert [described(g)[0] for g in spec.generators] == ["scale"]
    assert set(described(spec.generators[0])[1]) == {"w0.1", "b0.0", "w1.0"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_attention_of_three_outputs_that_is_partly_rounded(dtype):
    """A short axis of outputs is no pack of queries, keys and values; what is computed in float32 leaves
    exponents whole and the null space what it is."""

    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) + p["b" + n] for n in "qkv")
        scores = jnp.einsum("thk,shk->hts", q, k)
        weights = jax.nn.softmax(scores.astype(dtype)).astype(x.dtype)
        return jnp.einsum("hts,shk,hkd->td", weights, v, p["o"]) + p["bo"]

    p = nets.normal(1, q=(4, 2, 3), k=(4, 2, 3), v=(4, 2, 3), o=(2, 3, 3))
    p |= nets.normal(2, bq=(2, 3), bk=(2, 3), bv=(2, 3), bo=(3,))
    x = nets.inputs(6, 4)
    spec = symmetry.infer(fn, p, x)
    assert {t.exponent for g in spec.generators for t in g.terms} <= {1.0, -1.0}
    assert sorted(g.name.split(":")[0] for g in spec.generators) == ["linear"] * 2 + ["shift"] * 2
    assert symmetry.completeness(fn, p, spec, x) == (48, 48)


def test_derivatives_that_are_not_finite_are_null_in_no_direction():
    """A square root at zero: values are fine, derivatives are not."""

    def fn(p, x):
        return jnp.sqrt(jax.nn.relu(x @ p["w0"])) @ p["w1"]

    p = nets.normal(0, w0=(3, 5), w1=(5, 2))
    spec = symmetry.infer(fn, p, nets.inputs(12, 3), kinds=None)
    assert all(g.kind in ("scale", "sign") for g in spec.generators)
    run = jax.jit(fn)
    for g in spec.generators:
        moved = spec.act({g.name: g.draw(jax.random.key(0))}, p)
        assert change(run, p, moved, nets.inputs(12, 3)) < 1e-10


def test_a_function_that_fails_in_float64_is_skipped_with_its_reason():
    def fn(p, x):
        if p["w"].dtype != jnp.float32:
            raise RuntimeError("single precision only")
        return jnp.tanh(x @ p["w"]).sum(-1)

    p = {"w": jnp.ones((3, 4), "float32")}
    spec = symmetry.infer(fn, p, jnp.ones((2, 3), "float32"), kinds=None)
    assert spec.generators == () and "single precision only" in spec.skipped[0]
    assert len(spec.units) == 1


def test_layers_alike_share_a_search_and_others_do_not():
    """Equal shapes, different activations: what is found for one layer is not said of another."""
    kinds = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "leaky": nets.leaky}
    order = ["gelu", "leaky", "tanh", "gelu", "relu", "leaky"]

    def fn(p, x):
        h = jnp.tanh(x @ p["first"])
        for i, name in enumerate(order):
            h = kinds[name](h @ p[f"w{i}"] + p[f"b{i}"])
        return h @ p["last"]

    shapes = {"first": (3, 4), "last": (4, 2)}
    shapes |= {f"w{i}": (4, 4) for i in range(6)} | {f"b{i}": (4,) for i in range(6)}
    p, x = nets.normal(15, **shapes), nets.inputs(30, 3)
    spec = symmetry.infer(fn, p, x, kinds=None)
    found = {(g.kind, next(t.block for t in g.terms if t.block[0] == "b")) for g in spec.generators
             if any(t.block[0] == "b" for t in g.terms)}  # fmt: skip
    assert found == {("scale", "b1"), ("sign", "b2"), ("scale", "b4"), ("scale", "b5")}


def test_kin_are_found_by_what_is_computed_from_them():
    from wsljax.symmetry.generators.probe import Probe
    from wsljax.symmetry.generators.search import Search

    def fn(p, x):
        for i in range(6):
            x = x + leaky_block(p, i, x)
        return x @ p["last"]

    def leaky_block(p, i, x):
        return nets.leaky(x @ p[f"up{i}"]) @ p[f"down{i}"]

    shapes = {"last": (4, 2)} | {f"up{i}": (4, 5) for i in range(6)}
    p = nets.normal(16, **shapes, **{f"down{i}": (5, 4) for i in range(6)})
    x = nets.inputs(30, 4)
    spec = symmetry.infer(fn, p, x, kinds=("permutation",))
    search = Search(Probe(fn, spec, p, (x,)))
    families = search.kin.families(search.places)
    assert sorted(map(len, families)) == [6]
    full = symmetry.infer(fn, p, x, kinds=None)
    assert sum(g.kind == "scale" for g in full.generators) == 6


def eps_net(eps):
    def fn(p, x):
        h = x @ p["w0"] + p["b0"]
        h = (h - h.mean(0)) / jnp.sqrt(h.var(0) + eps) * p["g"] + p["s"]
        return nets.leaky(h) @ p["w1"]

    return fn, nets.normal(4, w0=(3, 5), b0=(5,), g=(5,), s=(5,), w1=(5, 2)), nets.inputs(12, 3)


def test_what_holds_but_for_an_epsilon_is_told_apart():
    """It is no part of the group, and comes with the change that it makes, which goes with the epsilon."""
    changes = []
    for eps in (1e-3, 1e-5):
        fn, p, x = eps_net(eps)
        spec = symmetry.infer(fn, p, x, kinds=None)
        assert [described(g) for g in spec.generators if g.kind == "scale"] == [
            ("scale", {"g.0": 1, "s.0": 1, "w1.0": -1})
        ]
        ((nearly, change_seen),) = spec.approximate
        assert described(nearly) == ("scale", {"w0.1": 1})
        element = {nearly.name: jnp.exp(0.5 * nets.inputs(5))}
        other = dataclasses.replace(spec, generators=(nearly,))
        assert 0 < change(jax.jit(fn), p, other.act(element, p), x) < 10 * change_seen
        assert symmetry.Spec.from_json(spec.to_json()).approximate == spec.approximate
        assert "approximate" in str(spec)
        changes.append(change_seen)
    assert 30 < changes[0] / changes[1] < 300
    fn, p, x = eps_net(0.0)
    spec = symmetry.infer(fn, p, x, kinds=None)
    assert spec.approximate == () and sum(g.kind == "scale" for g in spec.generators) == 2


def test_free_ends_do_not_hide_generators(key):
    """A softmax whose outputs may move: units of the logits, and their translation."""
    fn, p, x = nets.classifier()
    spec = symmetry.infer(fn, p, x, free_outputs=True, kinds=None)
    assert spec.outputs is not None and spec.skipped == ()
    shifts = {(g.target, g.constant) for g in spec.generators if g.kind == "shift"}
    assert shifts == {("b1", (0,)), ("w1", (1,))}
    assert max(symmetry.check(fn, p, spec, x, key=key).values()) < 1e-12


def test_inputs_in_float32_are_searched_in_float64():
    """Also where random inputs far from the given ones are of no use, and the given ones are taken."""

    def fn(p, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=numbers)
        h = (h - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-3) * p["g"]
        h = jnp.log(jnp.min(x)) + nets.leaky(h)  # not finite for inputs below zero
        return h.mean((1, 2)) @ p["w"]

    p = nets.normal(17, k=(3, 3, 1, 3), mean=(3,), g=(3,), w=(3, 4)) | {"var": jnp.ones(3)}
    x = 1 + jax.random.uniform(jax.random.key(0), (2, 6, 6, 1))
    p, x = jax.tree.map(lambda v: np.asarray(v, np.float32), (p, x))
    with jax.enable_x64(False):
        spec = symmetry.infer(fn, p, x)
    assert spec.skipped == () and sum(g.kind == "scale" for g in spec.generators) == 2
