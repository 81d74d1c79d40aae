"""Generators beyond permutations: the group's laws, text, and misuse, on a spec written by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from wsljax import symmetry
from wsljax.symmetry import Carry, Linear, Orthogonal, Phase, Scale, Shift, Sign, Term, Uniform

from .generator_nets import normal

SHAPES = {
    "bk": (2, 3), "bo": (4,), "bv": (2, 3), "e": (4, 6), "f": (6, 3), "gain": (6,), "k": (4, 2, 3),
    "o": (2, 3, 4), "q": (4, 2, 3), "r": (4, 4, 2), "s0": (3, 5), "s1": (5,), "s2": (5, 4), "s3": (4,),
    "v": (4, 2, 3), "var": (5,), "w0": (3, 7), "w1": (7,), "w2": (7, 7), "w3": (7, 2),
    "x": (5,), "y": (5, 2),
}  # fmt: skip
AXES = {
    "bk": "h a[h]", "bo": "_", "bv": "h c[h]", "e": "_ d", "f": "d _", "gain": "d", "k": "_ h a[h]",
    "o": "h c[h] _", "q": "_ h a[h]", "r": "_ _ _", "s0": "_ m", "s1": "m", "s2": "m _", "s3": "_",
    "v": "_ h c[h]", "var": "m", "w0": "_ u", "w1": "u", "w2": "u u", "w3": "u _", "x": "p", "y": "p _",
}  # fmt: skip
GENERATORS = (
    Linear("qk", "a", (Term("q", 2, 1, (1,)), Term("k", 2, -1, (1,))), 3, ("h",), (2,)),
    Linear(
        "vo", "c", (Term("v", 2, 1, (1,)), Term("bv", 1, 1, (0,)), Term("o", 1, -1, (0,))), 3,
        ("h",), (2,),
    ),
    Shift("key bias", "a", (), 3, ("h", "a"), (2, 3), target="bk"),
    Shift(
        "value bias", "c", (), 3, ("h", "c"), (2, 3), (Carry("bo", "o", "ab,abc->c"),), target="bv"
    ),
    Scale(
        "scale", "u",
        (Term("w0", 1), Term("w1", 0), Term("w2", 0, -2), Term("w2", 1), Term("w3", 0, -0.5)), 7,
    ),
    Sign(
        "flip", "m", (Term("s0", 1), Term("s1", 0), Term("s2", 0)), 5,
        carries=(Carry("s3", "s2", "a,ab->b", 0.5),),
    ),
    Scale("variance", "m", (Term("s0", 1), Term("var", 0, 2.0, offset=0.3)), 5),
    Orthogonal("turn", "d", (Term("e", 1), Term("f", 0, 1, through=("gain",))), 6),
    Scale("gain", "d", (Term("gain", 0), Term("f", 0, -1)), 6),
    Linear("rotary", None, (Term("r", 1), Term("r", 0, -1)), 4, pairs=((0, 2), (1, 3))),
    Phase(
        "phase", "p", (Term("y", 0),), 5, ("p",), (5,), target="x", step=1.25
    ),
    Sign("p sign", "p", (Term("x", 0), Term("y", 0)), 5),
    Uniform("whole", None, (Term("q", None, 1), Term("k", None, -1)), 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def hand():
    params = normal(0, **SHAPES)
    params["var"] = jnp.abs(params["var"]) + 1
    spec = dataclasses.replace(symmetry.parse(params, AXES), generators=GENERATORS)
    spec.validate()
    return spec, params


def far(a, b):
    return max(
        float(jnp.max(jnp.abs(x - y)))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def compiled(hand):
    spec, _ = hand
    return {
        "act": jax.jit(spec.act),
        "compose": jax.jit(spec.compose),
        "inverse": jax.jit(spec.inverse),
        "sample": jax.jit(spec.sample),
    }


def test_laws(hand, compiled, key):
    """An action of a semidirect product: permutations move the elements of the other generators."""
    spec, p = hand
    act, sample = compiled["act"], compiled["sample"]
    g1, g2, g3 = (sample(jax.random.fold_in(key, i)) for i in range(3))
    assert set(g1) == {u.name for u in spec.units} | {g.name for g in GENERATORS}
    assert far(spec.act(spec.identity(), p), p) < 1e-15
    both = compiled["compose"](g2, g1)
    assert far(act(both, p), act(g2, act(g1, p))) < 1e-11
    assert far(act(compiled["inverse"](g1), act(g1, p)), p) < 1e-11
    assert far(act(g1, act(compiled["inverse"](g1), p)), p) < 1e-11
    left = compiled["compose"](g3, both)
    right = compiled["compose"](compiled["compose"](g3, g2), g1)
    assert far(left, right) < 1e-10
    assert far(compiled["compose"](g1, compiled["inverse"](g1)), spec.identity()) < 1e-11


def test_order_matters(hand, compiled, key):
    """Composing without moving scalings by the permutation would be wrong, and so be seen."""
    spec, p = hand
    g1 = spec.sample(key, kinds=("permutation",))
    g2 = spec.sample(key, kinds=("scale",))
    right = compiled["act"](compiled["compose"](g2, g1), p)
    assert far(right, spec.act(g2, spec.act(g1, p))) < 1e-12
    assert far(spec.act(g1 | g2, p), spec.act(g2, spec.act(g1, p))) > 1e-2


def test_every_generator_does_what_it_says(hand, key):
    spec, p = hand
    g = spec.sample(key)
    m = spec.act({"qk": g["qk"]}, p)
    assert far(m["q"], jnp.einsum("dha,hab->dhb", p["q"], g["qk"])) < 1e-12
    score = jnp.einsum("dha,eha->hde", p["q"], p["k"])
    assert far(jnp.einsum("dha,eha->hde", m["q"], m["k"]), score) < 1e-12
    m = spec.act({"value bias": g["value bias"]}, p)
    assert far(m["bv"], p["bv"] + g["value bias"]) == 0
    through = jnp.einsum("hc,hcd->d", m["bv"], p["o"]) + m["bo"]
    assert far(through, jnp.einsum("hc,hcd->d", p["bv"], p["o"]) + p["bo"]) < 1e-12
    m, s = spec.act({"scale": g["scale"]}, p), g["scale"]
    assert far(m["w2"], p["w2"] * s[:, None] ** -2 * s) < 1e-12
    assert far(m["w3"], p["w3"] * s[:, None] ** -0.5) < 1e-12
    m = spec.act({"variance": g["variance"]}, p)
    assert far(m["var"], g["variance"] ** 2 * (p["var"] + 0.3) - 0.3) < 1e-12
    m, e = spec.act({"flip": g["flip"]}, p), g["flip"]
    assert far(m["s3"], p["s3"] + jnp.where(e[:, None] < 0, p["s2"], 0).sum(0)) < 1e-12
    m, q = spec.act({"turn": g["turn"]}, p), g["turn"]
    assert far(q @ q.T, jnp.eye(6)) < 1e-12
    folded = p["gain"][:, None] * p["f"]
    assert far(m["e"] @ (m["gain"][:, None] * m["f"]), p["e"] @ folded) < 1e-12
    r = g["rotary"]
    other = spec.sample(jax.random.key(5))["rotary"]
    assert far(r @ other, other @ r) < 1e-12 and abs(r[0, 1]) == 0 and abs(r[0, 2]) > 0


def test_kinds_restrict(hand, key):
    spec, _ = hand
    assert set(spec.sample(key, kinds=("permutation",))) == {"h", "a", "c", "d", "m", "u", "p"}
    assert set(spec.sample(key, kinds=("sign", "uniform"))) == {"flip", "p sign", "whole"}
    assert set(spec.algebra(kinds=("linear",))) == {"qk", "vo", "rotary"}
    with pytest.raises(ValueError, match="unknown kind 'spin'"):
        spec.sample(key, kinds=("spin",))


def test_algebra_and_exponential(hand, key):
    """Lines through zero become subgroups of one parameter."""
    spec, p = hand
    zero = spec.algebra()
    assert set(zero) == {g.name for g in GENERATORS if g.kind not in ("sign", "phase")}
    assert zero["turn"].shape == (15,) and zero["rotary"].shape == (2, 2)
    assert far(spec.act(spec.exp(zero), p), p) < 1e-15
    keys = jax.random.split(key, len(zero))
    v = {n: 0.3 * jax.random.normal(k, zero[n].shape) for k, n in zip(keys, zero, strict=True)}
    for name, x in v.items():
        once, twice = spec.exp({name: x}), spec.exp({name: 2 * x})
        assert far(spec.act(twice, p), spec.act(once, spec.act(once, p))) < 1e-11, name
        assert far(spec.act(once, p), p) > 1e-3, name
    with pytest.raises(ValueError, match="'flip'"):
        spec.exp({"flip": jnp.zeros(5)})
    with pytest.raises(ValueError, match="shape"):
        spec.exp({"turn": jnp.zeros(3)})


def test_transformations(hand, compiled, key):
    spec, p = hand
    g = compiled["sample"](key)
    zero = spec.algebra()
    slope = jax.jit(jax.grad(lambda v: sum(map(jnp.sum, spec.act(spec.exp(v), p).values()))))(zero)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in slope.values())
    step = 1e-6
    for name in ("qk", "turn", "variance", "value bias", "rotary"):
        one = jnp.zeros_like(zero[name]).at[(0,) * zero[name].ndim].set(step)
        up, down = (
            sum(map(jnp.sum, spec.act(spec.exp({name: s * one}), p).values())) for s in (1, -1)
        )
        assert slope[name][(0,) * zero[name].ndim] == pytest.approx(
            float((up - down) / 2 / step), rel=1e-5
        )
    gs = jax.tree.map(lambda a, b: jnp.stack([a, b]), g, compiled["sample"](jax.random.key(7)))
    each = jax.jit(jax.vmap(spec.act, in_axes=(0, None)))(gs, p)
    assert far(jax.tree.map(lambda x: x[0], each), compiled["act"](g, p)) < 1e-12


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_dtype_of_the_weights_is_kept(hand, key, dtype):
    spec, p = hand
    p = {n: x.astype(dtype) for n, x in p.items()}
    kinds = ("scale", "sign", "linear", "orthogonal", "uniform", "shift")
    g = spec.sample(key, kinds)
    with jax.numpy_dtype_promotion("strict"):
        moved = spec.act(g, p)
    assert {x.dtype for x in moved.values()} == {jnp.dtype(dtype)}


def test_text(hand):
    spec, _ = hand
    again = symmetry.Spec.from_json(spec.to_json())
    assert again == spec and hash(again) == hash(spec) and again.generators == GENERATORS
    assert spec != dataclasses.replace(spec, generators=GENERATORS[1:])
    table = str(spec)
    for g in GENERATORS:
        assert g.name in table
    assert "GL(3)" in table and "(var.0 + 0.3)^2" in table and "(gain f.0)" in table
    with pytest.raises(ValueError, match="unknown kind of generator"):
        symmetry.Spec.from_json(spec.to_json().replace('"kind": "sign"', '"kind": "spin"'))


def test_misuse(hand, key):
    spec, p = hand
    with pytest.raises(ValueError, match="'nobody'"):
        spec.act({"nobody": jnp.ones(3)}, p)
    with pytest.raises(ValueError, match=r"element\['scale'\] has shape \(6,\); expected \(7,\)"):
        spec.act({"scale": jnp.ones(6)}, p)
    for wrong, message in (
        (Scale("u", "u", (Term("w1", 0),), 7), "two units or generators"),
        (Scale("x", "u", (Term("w9", 0),), 7), "no block is called 'w9'"),
        (Scale("x", "u", (Term("w0", 0),), 7), "do not have the sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(spec, generators=(wrong,)).validate()
