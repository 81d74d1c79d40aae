"""Weight matching: what is planted is found, for any spec, one pair or many, on the host and traced."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import registry
from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.understanding.matching import weight_matching
from wsljax.understanding.matching.host import Ascent, ascend
from wsljax.understanding.matching.open_units import anchored_order
from wsljax.understanding.matching.problem import problem_of

RESIDUAL = {"in": ((32, 32), "_ s"), "out": ((32, 32), "s _")} | {
    f"{name}{k}": value
    for k in range(6)
    for name, value in (("up", ((32, 64), "s m{}")), ("down", ((64, 32), "m{} s")))
}
RESIDUAL = {n: (shape, text.format(n[-1])) for n, (shape, text) in RESIDUAL.items()}
QUICK = ["mlp", "heads", "twice nested", "scanned", "shortcut"]
EVERY = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SPECS]
ARCHITECTURES = ["raw/square_twice", "raw/tied_autoencoder"]


def draw(spec, seed, dtype=jnp.float32):
    return params_of(spec, jax.random.key(seed), dtype)


def planted(spec, seed, noise=0.0):
    """``a``, a permuted noisy copy, and the element that brings it back."""
    a = draw(spec, seed)
    g = spec.sample(jax.random.key(seed + 100))
    other = draw(spec, seed + 200)
    return a, spec.act(spec.inverse(g), jax.tree.map(lambda x, y: x + noise * y, a, other)), g


def inner(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(np.asarray(x, float), np.asarray(y, float)) for x, y in pairs))


@pytest.mark.parametrize("name", EVERY)
def test_what_is_planted_is_found(name, key):
    spec = spec_of(SPECS[name])
    for seed in range(3):
        a, b, _ = planted(spec, seed)
        m = weight_matching(a, b, spec, key=key)
        aligned = spec.act(m.element, b)
        for n in a:
            np.testing.assert_allclose(aligned[n], a[n], atol=1e-5)
        assert float(m.objective) == pytest.approx(inner(a, aligned), rel=1e-5)
        assert float(m.before) == pytest.approx(inner(a, b), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    "name",
    [n if n == "rnn" else pytest.param(n, marks=pytest.mark.slow) for n in SPECS],
)
def test_one_program_finds_it_too(name, key):
    spec = spec_of(SPECS[name])
    a, b, _ = planted(spec, 1)
    match = jax.jit(lambda a, b: weight_matching(a, b, spec, key=key, where="device"))
    m = match(a, b)
    aligned = spec.act(m.element, b)
    for n in a:
        np.testing.assert_allclose(aligned[n], a[n], atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [*ARCHITECTURES, pytest.param("all", marks=pytest.mark.slow)],
)
def test_aligned_networks_compute_the_same(name, key):
    """Whatever the architecture: the function stays, and planted copies come back."""
    cases = registry.load()
    chosen = (
        [c for c in cases.values() if not (c.slow or c.free)] if name == "all" else [cases[name]]
    )
    for case in chosen:
        fn, params, inputs = case.build(key)
        spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)
        if not spec.units:
            continue
        moved = spec.act(spec.sample(jax.random.key(1)), params)
        m = weight_matching(params, moved, spec, key=key)
        aligned = spec.act(m.element, moved)
        for x, y in zip(jax.tree.leaves(fn(aligned, *inputs)), jax.tree.leaves(fn(moved, *inputs))):
            np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-3, err_msg=case.name)
        weights = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.inexact)]
        full = sum(float(jnp.sum(jnp.abs(x) ** 2)) for x in weights)
        assert float(m.objective) == pytest.approx(full, rel=1e-4), case.name


def test_residual_ties(key):
    """One permutation shared down six residual layers, 30% noise; from the identity 9 of 20."""
    spec = spec_of(RESIDUAL)
    found = []
    for seed in range(20):
        a, b, g = planted(spec, seed, noise=0.3)
        m = weight_matching(a, b, spec, key=jax.random.fold_in(key, seed))
        found.append(all(bool(jnp.all(m.element[n] == g[n])) for n in g))
    assert sum(found) >= 19
    from_identity = [
        weight_matching(*planted(spec, s, 0.3)[:2], spec, key=key, start="identity").objective
        for s in range(6)
    ]
    full = [weight_matching(*planted(spec, s, 0.3)[:2], spec, key=key).objective for s in range(6)]
    assert any(x < 0.9 * y for x, y in zip(from_identity, full))


@pytest.mark.parametrize("name", ["rnn", "heads", "twice nested"])
def test_no_sweep_loses(name):
    spec = spec_of(SPECS[name])
    problem = problem_of(spec)
    stack = lambda seed: {  # noqa: E731
        n: np.stack([np.asarray(spec.blocks(draw(spec, seed + k))[n]) for k in range(3)])
        for n in spec.blocks(draw(spec, 0))
    }
    keep = {b.name for b in problem.blocks}
    a, b = ({n: x for n, x in stack(s).items() if n in keep} for s in (0, 50))
    for start in ("averages", "identity"):
        found = ascend(problem, a, b, seed=np.array([1]), start=start)
        assert np.all(np.diff(found.history, axis=0) >= -1e-4)
        np.testing.assert_allclose(found.history[-1], found.value)


def test_what_is_kept_is_what_it_would_be_anew():
    """After visits and partial updates, the gains that were kept are those of the weights."""
    leaves = {
        "x": ((6, 40), "_ a"),
        "w": ((40, 50), "a b"),
        "y": ((50, 5), "b _"),
        "c": ((50,), "b"),
    }
    spec = spec_of(leaves)
    problem = problem_of(spec)
    a, b, _ = planted(spec, 0, noise=2.0)
    state = Ascent(problem, *({n: np.asarray(x)[None] for n, x in z.items()} for z in (a, b)))
    rng = np.random.default_rng(0)
    state.start(anchored_order(problem))
    for turn in range(12):
        few = np.arange(40)
        few[:4] = rng.permutation(4)
        state.apply({"a": few[None]} if turn % 2 else {"b": rng.permutation(50)[None]})
        for name in ("a", "b"):
            kept = state._gains(name)
            anew = Ascent(problem, state.a, state.b)._gains(name)
            np.testing.assert_allclose(kept, anew, atol=1e-3)
    element = {n: jnp.asarray(x[0]) for n, x in state.element.items()}
    moved = spec.act(element, b)
    for n in b:
        np.testing.assert_allclose(state.b[n][0], moved[n], atol=1e-6)


@pytest.mark.parametrize("name", ["rnn", "heads"])
def test_many_pairs_are_each_pair(name, key):
    spec = spec_of(SPECS[name])
    nets = [[draw(spec, s + k) for k in range(4)] for s in (0, 50)]
    a, b = (jax.tree.map(lambda *x: jnp.stack(x), *group) for group in nets)
    together = weight_matching(a, b, spec, key=key)
    one = [weight_matching(x, y, spec, key=key) for x, y in zip(*nets)]
    for k, m in enumerate(one):
        assert float(together.objective[k]) == pytest.approx(float(m.objective), rel=1e-5)
        for n in m.element:
            np.testing.assert_array_equal(together.element[n][k], m.element[n])
    # one network with each of a stack
    first = weight_matching(nets[0][0], b, spec, key=key)
    assert first.objective.shape == (4,)
    assert float(first.objective[0]) == pytest.approx(float(one[0].objective), rel=1e-5)
    back = weight_matching(a, nets[1][0], spec, key=key)
    assert float(back.objective[0]) == pytest.approx(float(one[0].objective), rel=1e-5)


def test_vmap_is_a_loop(key):
    spec = spec_of(SPECS["mlp"])
    nets = [[draw(spec, s + k) for k in range(3)] for s in (0, 50)]
    a, b = (jax.tree.map(lambda *x: jnp.stack(x), *group) for group in nets)
    match = functools.partial(weight_matching, spec=spec, key=key, where="device")
    mapped = jax.jit(jax.vmap(match))(a, b)
    stacked = match(a, b)
    for k, (x, y) in enumerate(zip(*nets)):
        m = match(x, y)
        for many in (mapped, stacked):
            assert float(many.objective[k]) == pytest.approx(float(m.objective), rel=1e-5)
            for n in m.element:
                np.testing.assert_array_equal(many.element[n][k], m.element[n])


def test_the_best_of_one_layer(key):
    """Against all permutations of five units."""
    spec = spec_of({"w": ((2, 5), "_ h"), "v": ((5, 3), "h _")})
    a, b = draw(spec, 0), draw(spec, 1)
    best = max(inner(a, spec.act({"h": jnp.array(p)}, b)) for p in itertools.permutations(range(5)))
    for where in ("host", "device"):
        m = weight_matching(a, b, spec, key=key, where=where)
        assert float(m.objective) == pytest.approx(best, rel=1e-5)


def test_restarts_keep_the_best(key):
    spec = spec_of({f"w{k}": ((8, 8), f"{'_' if not k else f'h{k}'} h{k + 1}") for k in range(5)})
    gained = 0
    for seed in range(6):
        a, b = draw(spec, seed), draw(spec, seed + 50)
        values = [
            float(weight_matching(a, b, spec, key=key, restarts=r).objective) for r in (1, 3, 6)
        ]
        assert values == sorted(values)
        gained += values[-1] > values[0] + 1e-3
    assert gained


def test_starting_from_an_element(key):
    spec = spec_of(SPECS["heads"])
    a, b, g = planted(spec, 0)
    m = weight_matching(a, b, spec, key=key, init=g, start="identity", sweeps=0)
    assert float(m.objective) == pytest.approx(inner(a, a), rel=1e-5)
    only = weight_matching(a, b, spec, key=key, init={"h": g["h"]}, start="identity")
    assert float(only.objective) > float(only.before)


def test_dtypes_and_what_is_no_weight(key):
    leaves = {"w": ((3, 6), "_ h"), "v": ((6, 2), "h _"), "count": ((6,), "h")}
    spec = spec_of(leaves)
    a = {"w": draw(spec, 0)["w"].astype(jnp.bfloat16), "count": jnp.arange(6)}
    a["v"] = draw(spec, 0)["v"] + 1j * draw(spec, 1)["v"]
    g = spec.sample(key)
    b = spec.act(spec.inverse(g), a)
    for where in ("host", "device"):
        m = weight_matching(a, b, spec, key=key, where=where)
        np.testing.assert_array_equal(m.element["h"], g["h"])
        assert float(m.objective) == pytest.approx(
            float(jnp.sum(jnp.square(a["w"].astype(float))) + jnp.sum(jnp.abs(a["v"]) ** 2)),
            rel=1e-3,
        )


def test_what_is_refused(key):
    spec = spec_of(SPECS["mlp"])
    a = draw(spec, 0)
    match = functools.partial(weight_matching, spec=spec, key=key)
    with pytest.raises(ValueError, match="w0"):
        match(a, a | {"w0": jnp.zeros((2, 5))})
    with pytest.raises(ValueError, match="w1.*NaN"):
        match(a, a | {"w1": a["w1"] * jnp.nan})
    with pytest.raises(ValueError, match="start"):
        match(a, a, start="random")
    with pytest.raises(ValueError, match="restarts"):
        match(a, a, restarts=0)
    with pytest.raises(ValueError, match="host"):
        jax.jit(lambda a: match(a, a, where="host"))(a)
    with pytest.raises(ValueError, match="init"):
        match(a, a, init={"a": jnp.arange(3)})
    two, three = (jax.tree.map(lambda x: jnp.stack([x] * n), a) for n in (2, 3))  # noqa: B023
    with pytest.raises(ValueError, match="2 networks"):
        match(two, three)
