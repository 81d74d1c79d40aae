"""ScaleGMN: both directions equivariant, on every kind of scale and sign; path norms; dead units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Editor, Metanetwork, build_trunk
from wsljax.representation.scaling.frame import Frame, families
from wsljax.representation.scaling.pieces import pieces, with_generators
from wsljax.representation.scaling.straight import bend, straighten
from wsljax.symmetry import Scale, Sign, Term

from . import scaled_networks as nets

BY_DEFAULT = {"mixed", "batch norm"}


def slow(names, kept):
    return [pytest.param(n, marks=() if n in kept else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", slow(nets.SPECS, BY_DEFAULT))
def test_both_directions_are_equivariant(name):
    nets.check("scale_gmn", nets.SPECS[name], layers=1 if name in BY_DEFAULT else 2)


@pytest.mark.parametrize("name", slow(nets.SPECS, {}))
def test_the_forward_direction_alone_is(name):
    nets.check("scale_gmn", nets.SPECS[name], bidirectional=False)


@pytest.mark.parametrize("name", slow(nets.NETWORKS, {}))
def test_with_inferred_generators(name):
    spec = nets.inferred(name)
    kinds = {g.kind for g in spec.generators}
    assert (kinds & {"scale", "sign"} == set()) == (name == "gelu")
    nets.check("scale_gmn", spec)


def test_a_network_for_permutations_is_not_equivariant_to_scales():
    invariance, equivariance, _ = nets.measure("universal", nets.SPECS["relu"], layers=1)
    assert min(invariance) > 1e-2 and min(equivariance) > 1e-2
    permuted = nets.measure("universal", nets.SPECS["relu"], ("permutation",), layers=1)
    assert max(permuted[0] + permuted[1]) <= nets.KEPT


def test_the_directions_differ():
    spec = nets.SPECS["relu"]
    p = nets.draw(spec, 0)
    answers = [
        Metanetwork(spec, 3, 1, 2, key=quick_random.key(0), method="scale_gmn", bidirectional=b)
        for b in (True, False)
    ]
    trunks = [jax.tree.leaves(n.trunk) for n in answers]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *trunks))
    one, other = quickly(lambda p: [n(p) for n in answers])(p)
    assert nets.distance(one, other) > 1e-3


@pytest.mark.parametrize("name", slow(nets.SPECS, {"batch norm", "sigmoid", "packed gate"}))
def test_canonical_weights_are_invariant_to_scales_and_norms_move_as_they_do(name):
    spec = nets.SPECS[name]
    own = pieces(spec)
    p = nets.draw(spec, 0)
    g = spec.sample(jax.random.key(3), ("scale",))

    def of(params):
        found = straighten(own, spec.blocks(params))
        frame = Frame(own, found)
        canonical = frame.canonical(found)
        return found, canonical, frame.raw(canonical), frame.sizes()

    p = jax.tree.map(jnp.asarray, p)
    (found, one, back, sizes), (moved, other, _, moved_sizes) = quickly(
        lambda p: (of(p), of(spec.act(g, p)))
    )(p)
    assert nets.distance(found, back) < 1e-12
    assert nets.distance(one, other) < 1e-12
    for piece in own.members:
        ratio = moved[piece.name] / found[piece.name]
        if piece.offset:
            assert piece.name == "var"
        size = moved_sizes[piece.name] / sizes[piece.name]
        np.testing.assert_allclose(*np.broadcast_arrays(ratio, size), rtol=1e-10)
    assert nets.distance(bend(own, found), spec.blocks(p)) < 1e-12
    if spec.sample(jax.random.key(3), ("scale",)):
        assert nets.distance(found, moved) > 1e-2


def test_the_path_norm_of_an_mlp_and_the_feature_of_the_way_back():
    """``n_i^2 = (b_i^2 + mean_j w_ij^2 n_j^2) / 2``, and ``w_ij (n_j / n_i)^2`` moves as ``1 / w_ij``."""
    spec = nets.SPECS["relu"]
    own = pieces(spec)

    def norms(p):
        frame = Frame(own, straighten(own, spec.blocks(p)))
        a, b = (frame.norms[f][0] for f in range(2))
        return a, b, p["w1"] * jnp.square(a[:, None] / b)

    p = jax.tree.map(jnp.asarray, nets.draw(spec, 0))
    a, b, feature = norms(p)
    expected = np.sqrt((p["b0"] ** 2 + np.mean(p["w0"] ** 2, 0)) / 2)
    np.testing.assert_allclose(a, expected, rtol=1e-12)
    expected = np.sqrt((p["b1"] ** 2 + np.mean((p["w1"] * a[:, None]) ** 2, 0)) / 2)
    np.testing.assert_allclose(b, expected, rtol=1e-12)
    g = spec.sample(jax.random.key(1), ("scale",))
    moved = spec.act(g, p)
    np.testing.assert_allclose(norms(moved)[2] * moved["w1"], feature * p["w1"], rtol=1e-10)


@pytest.mark.parametrize("method", slow(["scale_gmn", "monomial", "magep"], {"scale_gmn"}))
def test_dead_units(method):
    """Outputs and gradients stay finite, and what leaves a dead unit may still be scaled."""
    spec = nets.SPECS["relu"]
    p = jax.tree.map(jnp.asarray, nets.draw(spec, 0))
    p = {**p, "w0": p["w0"].at[:, 1].set(0), "b0": p["b0"].at[1].set(0)}
    net = Metanetwork(spec, 3, 1, 2, key=quick_random.key(0), method=method, dtype=jnp.float64)
    edit = Editor(spec, 3, 1, key=quick_random.key(1), method=method, dtype=jnp.float64)
    edit = eqx.tree_at(lambda e: e.trunk, edit, net.trunk)
    arrays, rest = eqx.partition((net, edit), eqx.is_inexact_array)

    def loss(arrays, p):
        net, edit = eqx.combine(arrays, rest)
        edits = edit(p)
        return jnp.sum(net(p)) + sum(map(jnp.sum, jax.tree.leaves(edits))), edits

    program = quickly(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, edits), grads = program(arrays, p)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((value, edits, grads)))
    s = jnp.ones(3).at[1].set(7.0)
    g = {"scale a": s}
    (_, moved), _ = program(arrays, spec.act(g, p))
    assert nets.distance(moved, spec.act(g, edits)) < 1e-12
    nothing = jax.tree.map(jnp.zeros_like, p)
    (value, edits), grads = program(arrays, nothing)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((value, edits, grads)))


def test_norms_of_float32_do_not_overflow():
    spec = nets.SPECS["relu"]
    own = pieces(spec)
    p = jax.tree.map(lambda x: jnp.asarray(x * 1e25, jnp.float32), nets.draw(spec, 0))
    frame = Frame(own, straighten(own, spec.blocks({**p, "w1": p["w1"] * 1e-25})))
    assert all(bool(jnp.isfinite(n).all()) for rows in frame.norms for n in rows)


def test_pieces():
    own = pieces(nets.SPECS["packed gate"])
    assert [p.name for p in own.members] == ["v", "w[0]", "w[1]"]
    assert [p.flips for p in own.members] == [True, True, False]
    spec = nets.SPECS["fixed units"]
    assert pieces(spec).spec.axes == {
        "b": "f*.0",
        "u": "k _",
        "v": "f*.0 k",
        "w": "_ f*.0",
    }
    blocks = spec.blocks(jax.tree.map(jnp.asarray, nets.draw(spec, 0)))
    assert nets.distance(pieces(spec).join(pieces(spec).cut(blocks)), blocks) == 0


def test_order_of_norms_and_misuse():
    found, _ = families(nets.SPECS["batch norm"])
    assert [f.generators for f in found] == [("in", "by gain", "out")] or len(found) == 1
    circle = {"u": ((3, 4), "a b"), "v": ((4, 3), "b a")}
    spec = nets.spec_of(
        circle,
        Scale("a*", "a", (Term("u", 0), Term("v", 1, -1)), 3),
        Scale("b*", "b", (Term("u", 1), Term("v", 0, -1)), 4),
    )
    with pytest.raises(ValueError, match=r"norms of the scales \['a\*', 'b\*'\]"):
        families(spec)
    with pytest.raises(ValueError, match="no block is called 'w9'"):
        with_generators(nets.SPECS["plain"], [Sign("x", "a", (Term("w9", 0),), 3)])
    with pytest.raises(ValueError, match="`layers` must be positive"):
        Metanetwork(nets.SPECS["plain"], 3, 0, 2, key=quick_random.key(0), method="scale_gmn")
    params = {"w": jax.random.split(jax.random.key(0), 3)}
    spec = symmetry.parse(params, {"w": "h"})
    net = Metanetwork(spec, 3, 1, 2, key=quick_random.key(0), method="scale_gmn")
    with pytest.raises(ValueError, match="cannot be read as a weight"):
        net(params)


@pytest.mark.slow
def test_weights_with_channels():
    """Weights and, say, their momenta side by side, which move alike."""
    spec = nets.SPECS["mixed"]
    trunk = build_trunk("scale_gmn", spec, 3, 1, key=quick_random.key(0), c_in=2, dtype=jnp.float64)
    pool = trunk.make_pool(spec, 3, key=quick_random.key(1))
    both = [nets.draw(spec, k) for k in range(2)]
    g = spec.sample(jax.random.key(2), nets.KINDS)
    moved = [spec.act(g, p) for p in both]
    run = quickly(
        lambda a, b: pool(
            trunk(jax.tree.map(lambda *x: jnp.stack(x, -1), *map(spec.blocks, (a, b))))
        )
    )
    one, other, swapped = run(*both), run(*moved), run(*both[::-1])
    assert nets.distance(one, swapped) > 1e-2
    assert nets.distance(one, other) < nets.KEPT
