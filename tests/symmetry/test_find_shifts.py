"""Shifts of whole factors and of masked entries, gates packed beside their values, and what looks like them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry, understanding
from wsljax.symmetry.generators.translations import chooses

from . import generator_nets as nets

EXACT, BROKEN = 1e-11, 1e-3
MASK = np.array([[1, 0, 0, 1, 1], [1, 1, 0, 0, 1], [0, 1, 1, 1, 1]])


def adapted(outside=lambda v: v):
    """A dense layer with the two factors of LoRA; with ``outside``, the adapter is a path of its own."""

    def fn(p, x):
        h = jnp.tanh(x @ p["w"] + outside(x @ p["down"]) @ p["up"] + p["b"])
        return h @ p["out"]

    p = nets.normal(3, w=(4, 5), down=(4, 2), up=(2, 5), b=(5,), out=(5, 3))
    return fn, p, nets.inputs(12, 4)


def masked(low=0.0):
    """Entries outside a mask do not matter; with ``low``, they do."""

    def fn(p, x):
        return jnp.tanh(x @ jnp.where(MASK, p["w"], low * p["w"])) @ p["out"]

    return fn, nets.normal(4, w=(3, 5), out=(5, 2)), nets.inputs(12, 3)


def packed_gate(value=lambda v: v):
    """Values and gates are the two columns of each unit."""

    def fn(p, x):
        both = jnp.einsum("bi,ihs->bhs", x, p["w"]) + p["b"]
        return (value(both[..., 0]) * jax.nn.sigmoid(both[..., 1])) @ p["out"]

    return fn, nets.normal(5, w=(4, 5, 2), b=(5, 2), out=(5, 3)), nets.inputs(12, 4)


def products():
    """A similarity: only ``b b^T`` matters, so ``b`` alone may be turned."""

    def fn(p, x):
        return jnp.einsum("bi,ij,bj->b", x, p["b"] @ p["b"].T, jnp.sin(3 * x))

    return fn, nets.normal(6, b=(4, 3)), nets.inputs(20, 4)


def words(p, tokens):
    return jnp.tanh(p["table"][tokens].sum(-2)) @ p["out"]


@functools.cache
def ready(make, *args):
    fn, p, x = make(*args)
    return fn, p, x, symmetry.infer(fn, p, x)


def change(fn, p, moved, x):
    old = fn(p, x)
    return float(jnp.max(jnp.abs(fn(moved, x) - old)) / jnp.std(old))


def targets(spec):
    return {g.target: g for g in spec.generators if g.kind == "shift"}


@pytest.mark.parametrize("make", [adapted, masked, packed_gate, products])
def test_explained_whole_and_a_group(make, key):
    """The certificate; and action, composition and inverse are exact."""
    fn, p, x, spec = ready(make)
    explained, nullity = symmetry.completeness(fn, p, spec, x)
    assert explained == nullity > 0
    g1, g2 = spec.sample(key), spec.sample(jax.random.fold_in(key, 1))
    once = spec.act(g1, p)
    assert change(fn, p, once, x) < EXACT
    for a, b in (
        (spec.act(spec.compose(g2, g1), p), spec.act(g2, once)),
        (spec.act(spec.inverse(g1), once), p),
    ):
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(u, v, atol=1e-9, rtol=1e-9)
    assert symmetry.Spec.from_json(spec.to_json()).generators == spec.generators


@pytest.mark.parametrize("make", [adapted, masked])
def test_canonical_form_is_constant_on_the_orbit(make, key):
    fn, p, x, spec = ready(make)
    forms = [understanding.canonicalise(q, spec).params for q in (p, spec.act(spec.sample(key), p))]
    assert change(fn, p, forms[0], x) < EXACT
    for u, v in zip(*map(jax.tree.leaves, forms), strict=True):
        np.testing.assert_allclose(u, v, atol=1e-8)


def test_updates_projected_off_shifts_move_no_masked_entry(key):
    fn, p, x, spec = ready(masked)
    noise = jax.tree.map(lambda v: jax.random.normal(key, v.shape, v.dtype), p)
    moved, _ = understanding.project_off_orbit(noise, p, spec)
    np.testing.assert_allclose(jnp.where(MASK, 0, moved["w"]), 0, atol=1e-6)
    assert float(jnp.max(jnp.abs(moved["w"]))) > 0.1


def test_each_factor_of_an_adapter_may_be_shifted(key):
    fn, p, x, spec = ready(adapted)
    found = targets(spec)
    assert {n: g.sizes for n, g in found.items()} == {"down": (4, 2), "up": (2, 5)}
    assert [(c.bias, c.weight, c.factor) for c in found["down"].carries] == [("w", "up", -1.0)]
    element = {found["down"].name: found["down"].draw(key)}
    moved = spec.act(element, p)
    assert float(jnp.max(jnp.abs(moved["down"] - p["down"]))) > 0.1
    assert change(fn, p, moved, x) < EXACT
    assert change(fn, p, moved | {"w": p["w"]}, x) > BROKEN  # without what the kernel takes up


def test_a_path_of_its_own_takes_nothing_up():
    *_, spec = ready(adapted, jnp.tanh)
    assert not targets(spec)


def test_masked_entries_alone_are_free(key):
    """They are shifted, the others are not; and the canonical form has zeros there."""
    fn, p, x, spec = ready(masked)
    (shift,) = targets(spec).values()
    assert len(shift.basis) == np.sum(MASK == 0)
    moved = spec.act({shift.name: shift.draw(key)}, p)
    np.testing.assert_array_equal((moved["w"] != p["w"]), MASK == 0)
    form = understanding.canonicalise(moved, spec).params
    assert float(jnp.max(jnp.abs(jnp.where(MASK, 0, form["w"])))) < 1e-12
    assert symmetry.conserved(p, spec)[shift.name].shape == shift.shape


def test_entries_that_matter_a_little_are_not_free():
    assert not targets(ready(masked, 1e-3)[-1])


def test_words_that_no_example_holds_are_not_free():
    p = nets.normal(7, table=(6, 4), out=(4, 2))
    spec = symmetry.infer(words, p, jnp.array([[0, 1, 2], [2, 1, 1]]))
    assert not targets(spec)


@pytest.mark.parametrize(
    "fn, answer",
    [
        (lambda p, x: jnp.tanh(x @ p["w"]), False),
        (lambda p, x: p["w"][jnp.argmax(x, -1)], True),
        (lambda p, x: p["w"][jnp.clip(x[:, 0].astype(int), 0, 2)], True),
        (lambda p, x: jax.jit(lambda v: jnp.argsort(v, -1))(x) @ p["w"], True),
        (lambda p, x: jnp.sort(x @ p["w"], -1), False),
    ],
)
def test_numbers_that_say_what_is_read(fn, answer):
    from wsljax.symmetry.generators.probe import Probe

    p, x = nets.normal(8, w=(3, 4)), nets.inputs(5, 3)
    spec = symmetry.infer(fn, p, x, kinds=("permutation",))
    assert chooses(Probe(fn, spec, p, (x,))) is answer


def test_values_packed_beside_gates_are_scaled_alone():
    *_, spec = ready(packed_gate)
    (scale,) = (g for g in spec.generators if g.kind == "scale")
    parts = {t.block: t.part for t in scale.terms}
    assert parts == {"w": ((2, 0),), "b": ((1, 0),), "out": ()}
    *_, squashed = ready(packed_gate, jnp.tanh)
    assert not [g for g in squashed.generators if g.kind == "scale"]


def test_one_block_alone_may_be_turned():
    *_, spec = ready(products)
    (turn,) = spec.generators
    assert turn.kind == "orthogonal" and [t.block for t in turn.terms] == ["b"]
