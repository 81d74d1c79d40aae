"""The table of exact actions, row by row: what ``infer`` finds, its random elements, and wrong variants of it.

Row vectors, ``y = h W + b``. Exact is a change of the outputs below 1e-12 of their spread, in float64; a
wrong variant changes them by more than 1e-3. Rows that are no group of weights of the same shapes are
written out below the table.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.scipy.linalg import expm

from wsljax import symmetry

from . import generator_nets as nets
from .test_find_generators import BROKEN, EXACT, change, described, ready, same


# ------------------------------------------------------------------------------ wrong variants
def altered(alter, draw=lambda gen, element: element):
    """The same element, or another one, acting by an altered generator."""

    def measure(c):
        gen = alter(c.gen)
        other = dataclasses.replace(c.spec, generators=(gen,))
        return change(c.run, c.params, other.act({gen.name: draw(gen, c.element)}, c.params), c.x)

    return measure


def without(block):
    """A leaf is forgotten."""
    return altered(lambda g: with_terms(g, [t for t in g.terms if t.block != block]))


def power(block, factor):
    """The exponent of a leaf is wrong."""
    return altered(lambda g: with_terms(g, [
        dataclasses.replace(t, exponent=factor * t.exponent) if t.block == block else t
        for t in g.terms
    ]))  # fmt: skip


def with_terms(g, terms):
    assert tuple(terms) != g.terms
    return dataclasses.replace(g, terms=tuple(terms))


no_carry = altered(lambda g: dataclasses.replace(g, carries=()))
no_eps = altered(
    lambda g: with_terms(g, [dataclasses.replace(t, offset=0.0) for t in g.terms]),
    lambda gen, element: element**4,
)
no_gain = altered(lambda g: with_terms(g, [dataclasses.replace(t, through=()) for t in g.terms]))
all_of_gl = altered(
    lambda g: dataclasses.replace(g, pairs=()), lambda gen, element: gen.draw(jax.random.key(5))
)


def element(make):
    """Another element, that is not in the group."""
    return lambda c: change(
        c.run, c.params, c.spec.act({c.gen.name: make(c.element)}, c.params), c.x
    )


def leaves(**moves):
    """Leaves moved by hand, by the element: ``w=lambda w, e: w * e``."""
    return lambda c: change(
        c.run, c.params, c.params | {k: f(c.params[k], c.element) for k, f in moves.items()}, c.x
    )


def in_net(name, block):
    """In another network there is no such shift of the block, and moving it does harm."""

    def measure(c):
        _, run, params, x, spec = ready(name)
        assert not any(g.kind == "shift" and g.target == block for g in spec.generators)
        move = jax.random.normal(jax.random.key(5), params[block].shape)
        return change(run, params, params | {block: params[block] + move}, x)

    return measure


# ------------------------------------------------------------------------------ the table
def at(places):
    """``"w0.1 b0.0 w1.0^-1"`` as exponents."""
    pairs = (p.split("^") for p in places.split())
    return {p[0]: float(p[1]) if len(p) > 1 else 1.0 for p in pairs}


HEADS = "q.2 bq.1 k.2^-1"
ROWS = {
    # row: network, kind, places and exponents, wrong variants
    "positive scaling": ("leaky", "scale", "w0.1 b0.0 w1.0^-1", [power("w1", -1), without("b0")]),
    "degree k": ("relu squared", "scale", "w0.1 b0.0 w1.0^-2", [power("w1", 0.5), without("w1")]),
    "sign flip": ("tanh", "sign", "w0.1 b0.0 w1.0", [without("w1"), without("b0")]),
    "sigmoid flip": ("sigmoid", "sign", "w0.1 b0.0 w1.0", [no_carry, without("w1")]),
    "sine phase": (
        "sine of frequency 30", "phase", "b0 w1.0",
        [without("w1"), leaves(b0=lambda b, k: b + 1.1 * k * jnp.pi / 30)],
    ),
    "gate value branch": (
        "gated", "scale", "wv.1 bv.0 wo.0^-1",
        [without("bv"), leaves(wg=lambda w, s: w * s, wo=lambda w, s: w / s[:, None])],
    ),
    "gate value branch, sign": ("gated", "sign", "wv.1 bv.0 wo.0", [without("wo")]),
    "softmax translation": (
        "classifier", "shift", {"w1 1": 1.0}, [leaves(w1=lambda w, u: w + w.sum(0) * u[0])],
    ),
    "softmax translation, bias": (
        "classifier", "shift", {"b1 0": 1.0}, [leaves(b1=lambda b, c: b + jnp.array([1.0, 0, 0]))],
    ),
    "batch norm input": (
        "batch norm in training", "scale", "w0.1", [leaves(w0=lambda w, s: w * s[:3, None])],
    ),
    "batch norm input, bias": (
        "batch norm in training", "shift", {"b0": 1.0}, [leaves(s=lambda b, t: b + t)],
    ),
    "batch norm inference": (
        "batch norm in inference", "scale", "w0.1 b0.0 mean.0 var.0^2", [no_eps, power("var", 0.5)],
    ),
    "batch norm gain": (
        "batch norm in training", "scale", "g.0 s.0 w1.0^-1", [without("s"), power("w1", -1)],
    ),
    "linear bottleneck": ("lora", "linear", "a.1 b.0^-1", [power("b", -1), without("a")]),
    "radial": ("radial", "orthogonal", "w0.1 b0.0 w1.0", [element(lambda q: 1.5 * q), without("b0")]),
    "query and key of a head": (
        "attention with biases", "linear", HEADS, [power("k", -1), without("bq")],
    ),
    "query and key under rotary": (
        "rotary attention", "linear", HEADS + " bk.1^-1", [all_of_gl, without("bk")],
    ),
    "value and output of a head": (
        "attention with biases", "linear", "v.2 bv.1 o.1^-1", [power("o", -1), without("bv")],
    ),
    "key bias": (
        "attention with biases", "shift", {"bk": 1.0}, [in_net("rotary attention", "bk")],
    ),
    "value bias": ("attention with biases", "shift", {"bv": 1.0}, [no_carry]),
    "residual stream": (
        "transformer", "orthogonal", "emb.1 q.0 k.0 v.0 o.2 w1.0 w2.1 head.0",
        [no_gain, without("w2"), element(lambda q: q @ jnp.diag(jnp.array([2.0, 1, 1, 1])))],
    ),
    "gains of the stream": ("transformer", "scale", "g2.0 w1.0^-1", [power("w1", -1)]),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_row(row):
    """``infer`` finds it; random elements are exact; wrong variants are not."""
    name, kind, places, wrong = ROWS[row]
    _, run, params, x, spec = ready(name)
    places = at(places) if isinstance(places, str) else places
    found = [g for g in spec.generators if same((kind, places), described(g))]
    assert len(found) == 1, f"{len(found)} of {kind} {places} in\n{spec}"
    (gen,) = found
    for seed in range(3):
        g = gen.draw(jax.random.key(seed))
        if kind in ("sign", "phase"):
            g = jnp.where(jnp.arange(g.size) == seed, -1, g.reshape(-1)).reshape(g.shape)
        moved = spec.act({gen.name: g}, params)
        assert change(run, params, moved, x) < EXACT
        assert any(not jnp.allclose(moved[k], params[k]) for k in params)
        c = SimpleNamespace(run=run, params=params, x=x, spec=spec, gen=gen, element=g)
        worst = [measure(c) for measure in wrong]
        assert min(worst) > BROKEN, worst


@pytest.mark.parametrize(
    "row, name, path, readers",
    [("permutation", "tanh", "w0", {"w1": 0}), ("head permutation", "attention with biases", "q", {"o": 0})],
)  # fmt: skip
def test_permutations(row, name, path, readers):
    """Neurons; whole heads, with all that is theirs."""
    _, run, params, x, spec = ready(name)
    axes = spec.axes[path].split()
    units = next(u.name for u in spec.units if u.name in axes and not u.over)
    n = spec.size_of(units)
    g = {units: jnp.roll(jnp.arange(n), 1)}
    moved = spec.act(g, params)
    assert change(run, params, moved, x) < EXACT and not jnp.allclose(moved[path], params[path])
    for leaf in readers:
        assert change(run, params, moved | {leaf: params[leaf]}, x) > BROKEN


def test_l2_balance():
    """Saul 2023: the fixed point of ``s = (out / in) ** (1 / 4)`` on the squares, unit by unit, repeated."""
    _, run, params, x, spec = ready("leaky")

    def squares(p, into):
        return {
            k: jnp.sum(p[k] ** 2, 0 if into else 1)
            for k in ("w0", "b0", "w1", "b1", "w2")
            if p[k].ndim > 1
        }

    def sides(p, i):
        incoming = squares(p, True)[f"w{i}"] + p[f"b{i}"] ** 2
        return incoming, squares(p, False)[f"w{i + 1}"]

    def imbalance(p):
        return max(float(jnp.max(jnp.abs(a / b - 1))) for a, b in (sides(p, 0), sides(p, 1)))

    p = params
    for _ in range(300):
        for i in range(2):
            incoming, outgoing = sides(p, i)
            (gen,) = (g for g in spec.generators if any(t.block == f"b{i}" for t in g.terms))
            sign = next(t.exponent for t in gen.terms if t.block == f"b{i}")
            p = spec.act({gen.name: (outgoing / incoming) ** (sign / 4)}, p)
    assert change(run, params, p, x) < EXACT
    assert imbalance(p) < 1e-12 < BROKEN < imbalance(params)


def test_batch_norm_input_with_eps():
    """Approximate where there is an eps: nothing that ``infer`` calls exact scales what is normalised."""

    def fn(p, x):
        h = x @ p["w0"]
        return jnp.tanh((h - h.mean(0)) / jnp.sqrt(h.var(0) + 0.1) * p["g"]) @ p["w1"]

    p, x = nets.normal(4, w0=(3, 5), g=(5,), w1=(5, 2)), nets.inputs(12, 3)
    s = jnp.exp(0.5 * jnp.arange(5.0))
    assert change(fn, p, p | {"w0": p["w0"] * s}, x) > BROKEN
    spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
    for g in spec.generators:
        if {t.block for t in g.terms} == {"w0"}:
            assert change(fn, p, spec.act({g.name: g.draw(jax.random.key(0))}, p), x) < EXACT


def test_layer_norm_to_rms_norm():
    """Writers centred, gain and shift in the readers, the mean gone; any of these alone is wrong."""
    fn, _, params, x, _ = ready("layer norm")
    folded = symmetry.fold_norms(fn, params, x)
    base, y = fn(params, x), folded.params

    def off(p):
        return float(jnp.max(jnp.abs(folded.fn(p, x) - base)) / jnp.std(base))

    assert off(y) < EXACT
    for leaf in (
        "w0",
        "b0",
        "w1",
        "b1",
    ):  # not centred; gain not in the reader; shift not in its bias
        assert off(y | {leaf: params[leaf]}) > BROKEN, leaf


def test_widening():
    """Theus 2025: writers ``O`` with orthonormal rows, readers ``sqrt(D/D') O^T``, ``eps D/D'``."""
    d, wide, eps = 4, 7, 0.05
    p, x = nets.normal(20, a=(3, d), w=(d, 5), o=(5, d), h=(d, 2)), nets.inputs(12, 3)

    def fn(p, x, eps):
        s = x @ p["a"]
        s = s + jnp.tanh(nets.rms(s, 1.0, eps) @ p["w"]) @ p["o"]
        return nets.rms(s, 1.0, eps) @ p["h"]

    q = jnp.linalg.qr(jax.random.normal(jax.random.key(3), (wide, d)))[0].T
    c = (d / wide) ** 0.5
    more = {"a": p["a"] @ q, "o": p["o"] @ q, "w": c * q.T @ p["w"], "h": c * q.T @ p["h"]}
    base = fn(p, x, eps)

    def off(p, eps):
        return float(jnp.max(jnp.abs(fn(p, x, eps) - base)) / jnp.std(base))

    assert off(more, eps * d / wide) < EXACT
    assert off(more, eps) > BROKEN and off(more | {"w": more["w"] / c}, eps * d / wide) > BROKEN
    stretched = {"a": 1.1 * more["a"], "o": more["o"]}
    assert off(more | stretched, eps * d / wide) > BROKEN
    # and what is wide has the rotations of its own width
    spec = symmetry.infer(lambda p, x: fn(p, x, eps * d / wide), more, x, kinds=None)
    (turn,) = (g for g in spec.generators if g.kind == "orthogonal")
    assert turn.size == wide
    assert off(spec.act({turn.name: turn.draw(jax.random.key(1))}, more), eps * d / wide) < EXACT


def test_data_dependent_gl():
    """Zhao 2022, exact: ``W1 <- h^+ s^-1(s(h W1) e^T)``, ``W2 <- e^-T W2`` for samples that are at most as
    many as the inputs are wide; on other samples, with more of them, or with ``I - T`` it is no symmetry."""
    width, slope = 6, 0.3
    p = nets.normal(21, w0=(width, width), w1=(width, 2))
    t = 0.3 * jax.random.normal(jax.random.key(2), (width, width))

    def fn(p, x):
        return jax.nn.leaky_relu(x @ p["w0"], slope) @ p["w1"]

    def moved(h, inverse):
        y = jax.nn.leaky_relu(h @ p["w0"], slope) @ expm(t)
        back = jnp.where(y > 0, y, y / slope)
        return {"w0": jnp.linalg.pinv(h) @ back, "w1": inverse @ p["w1"]}

    few, others, many = nets.inputs(4, width), nets.inputs(4, width, seed=1), nets.inputs(64, width)
    exact = moved(few, expm(-t))
    assert change(fn, p, exact, few) < EXACT
    assert change(fn, p, exact, others) > BROKEN
    assert change(fn, p, moved(few, jnp.eye(width) - t), few) > BROKEN
    assert change(fn, p, moved(many, expm(-t)), many) > BROKEN
