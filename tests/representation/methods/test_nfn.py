"""Neural functional networks: complete, or exactly as incomplete as published; ends free or fixed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Metanetwork, count_terms, methods, structure
from wsljax.representation.blocks.features import Features
from wsljax.representation.methods.ends import recut
from wsljax.representation.methods.nfn import nfn_trunk, published_nfn
from wsljax.representation.universal.restricted import RestrictedLinear

from ..specs import SPECS, act, features_of, moves, params_of, spec_of
from .spans import matrices, missing_into, mlp, rank, slow_but_first, under

KEPT = 1e-10


def linear(spec: symmetry.Spec, ends, published: bool) -> tuple[RestrictedLinear, symmetry.Spec]:
    own = recut(spec, ends)
    rule = published_nfn(spec, ends) if published else None
    return RestrictedLinear(own, 1, 1, key=jax.random.key(0), rule=rule, dtype=jnp.float64), own


FREE = {(2, 3, 4, 1): 57, (2, 3, 4, 3): 62}
FIXED = {(2, 3, 4, 2): (114, 112), (2, 3, 2, 3, 2): (164, 162), (2, 3, 2): (74, 72)}


@pytest.mark.parametrize("widths", slow_but_first(FREE), ids=str)
def test_np_is_complete(widths):
    """The published layer too: its rank is the number of orbits on pairs of weights."""
    layer, own = linear(mlp(*widths), "free", published=False)
    found = matrices(layer, own)
    assert rank(found) == FREE[widths]
    assert rank(under(published_nfn(mlp(*widths), "free"), layer, found)) == FREE[widths]
    for p in moves(own):
        assert np.abs(found[:, p][:, :, p] - found).max() < 1e-12


def test_np_counts_do_not_depend_on_widths():
    for widths, terms in (((2, 32, 32, 1), 57), ((2, 32, 32, 3), 62)):
        assert count_terms(recut(mlp(*widths), "free")) == terms


@pytest.mark.parametrize("widths", slow_but_first(FIXED), ids=str)
def test_hnp_is_completed_and_the_published_layer_lacks_as_many_maps_as_there_are_outputs(widths):
    spec = mlp(*widths)
    layer, own = linear(spec, "fixed", published=False)
    complete = matrices(layer, own)
    published = under(published_nfn(spec), layer, complete)
    assert (rank(complete), rank(published)) == FIXED[widths]
    assert missing_into(f"w{len(widths) - 2}", own, published, complete) == (widths[-1], 0)
    for p in moves(own):
        assert np.abs(complete[:, p][:, :, p] - complete).max() < 1e-12


def test_the_published_maps_on_a_recurrent_kernel_tie_nothing():
    """``h h``: itself, rows and columns to rows and columns, the mean to all: no diagonal, no transpose."""
    spec = spec_of({"w": ((4, 4), "h h")})
    layer, own = linear(spec, "free", published=True)
    assert rank(matrices(layer, own)) == 1 + 4 + 1 < count_terms(own) == 15


def test_a_restricted_layer_is_blind_to_what_the_rule_leaves_out():
    """The control: the completed layer is not."""
    spec = mlp(2, 3, 4, 2)
    x = features_of(recut(spec, "fixed"), 1, jax.random.key(1))
    moved = {**x, "b1": jnp.flip(x["b1"], 0)}  # its mean is the same
    for published, same in ((True, True), (False, False)):
        layer, own = linear(spec, "fixed", published)
        run = eqx.filter_jit(layer)
        y, z = (run(Features.of(structure(own), v))["w2#1"] for v in (x, moved))
        assert bool(jnp.allclose(y, z, atol=1e-12)) is same


OPTIONS = [
    {"ends": "free", "published": True, "io_encoding": "sinusoidal"},
    {"ends": "fixed", "published": True},
    {"ends": "folded", "published": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("name", ["flatten", pytest.param("scanned heads", marks=pytest.mark.slow)])
def test_every_option_is_equivariant(name, options):
    check(spec_of(SPECS[name]), options)


def check(spec: symmetry.Spec, options: dict) -> None:
    @quickly
    def run(batch):
        keys = jax.random.key(0), jax.random.key(1)
        options_too = {"method": "nfn", "dtype": jnp.float64, **options}
        net = Metanetwork(spec, 3, 2, 2, key=keys[0], **options_too)
        readout = net.trunk.make_readout(spec, 3, key=keys[1], dtype=jnp.float64)

        def one(params):
            x = net.trunk(spec.blocks(params))
            return net.head(net.pool(x)), spec.unblocks(readout(x), like=params)

        return jax.vmap(one)(batch)

    params, other = (params_of(spec, jax.random.key(k)) for k in (2, 3))
    g = spec.sample(jax.random.key(4))
    answer, edited = run(stacked(params, spec.act(g, params), other))
    spread = float(jnp.abs(answer[0] - answer[2]).max())
    assert spread > 1e-3
    assert jnp.abs(answer[0] - answer[1]).max() <= KEPT * spread
    first = jax.tree.map(lambda x: x[0], edited)
    for path, x in spec.act(g, first).items():
        size = float(jnp.abs(edited[path][0] - edited[path][2]).max())
        assert size > 1e-3
        assert jnp.abs(edited[path][1] - x).max() <= KEPT * size


def stacked(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


CODES = [{"io_encoding": "learned"}, {"io_encoding": "sinusoidal"}, {"ends": "fixed"}]


@pytest.mark.parametrize("options", slow_but_first(CODES), ids=str)
def test_codes_break_the_symmetry_of_free_ends(options):
    """Without them exchanging the inputs changes nothing; with them, and with fixed ends, it does."""
    spec = mlp(3, 4, 2)
    params = params_of(spec, jax.random.key(0))
    swapped = {**params, "w0": params["w0"][::-1]}
    cases = (({"io_encoding": None}, True), (options, False))

    @quickly
    def run(batch):
        out = []
        for options, _ in cases:
            net = Metanetwork(
                spec, 4, 1, 2, key=jax.random.key(1), method="nfn", dtype=jnp.float64, **options
            )
            out.append(jax.vmap(net)(batch))
        return out

    for (options, blind), (one, other) in zip(cases, run(stacked(params, swapped)), strict=True):
        assert bool(jnp.abs(one - other).max() < 1e-10) is blind, options


def test_kernel_positions_are_channels_and_free_ends_are_not():
    spec = spec_of(SPECS["flatten"])
    assert recut(spec, "free").axes == {"b": "c", "k": "_ _ inputs2 c", "w": "_ c outputs3"}
    blocks = spec.blocks(params_of(spec, jax.random.key(1)))
    x = jax.eval_shape(lambda: nfn_trunk(spec, 4, 1, key=jax.random.key(0))(blocks).blocks())
    assert {n: a.shape for n, a in x.items()} == {
        "b": (5, 4),
        "k": (2, 5, 4),
        "w": (5, 3, 4),
    }


@pytest.mark.parametrize("ends", slow_but_first(["fixed", "free"]))
def test_gradients_side_by_side_with_weights(ends):
    """``c_in`` channels on a last axis pass through the cutting of ends."""
    spec = mlp(2, 3, 2)
    params = params_of(spec, jax.random.key(1))
    g = spec.sample(jax.random.key(2))

    @quickly
    def run(batch):
        trunk = nfn_trunk(spec, 4, 1, key=jax.random.key(0), ends=ends, c_in=2, dtype=jnp.float64)
        pairs = jax.vmap(lambda p: {n: jnp.stack([x, x**2], -1) for n, x in spec.blocks(p).items()})
        return jax.vmap(lambda blocks: trunk(blocks).blocks())(pairs(batch))

    found = run(stacked(params, spec.act(g, params)))
    own = recut(spec, ends)
    expected = act(own, {**own.identity(), **g}, {n: x[0] for n, x in found.items()})
    for n, x in found.items():
        assert np.abs(np.asarray(x[1]) - expected[n]).max() < 1e-10


def test_bad_options_are_named():
    spec = mlp(2, 3, 2)
    with pytest.raises(ValueError, match="`ends` must be one of"):
        nfn_trunk(spec, 4, 1, key=jax.random.key(0), ends="loose")
    with pytest.raises(ValueError, match="`io_encoding` must be"):
        nfn_trunk(spec, 4, 1, key=jax.random.key(0), io_encoding="cosine")
    with pytest.raises(ValueError, match="`ends` says what becomes of fixed axes"):
        nfn_trunk(spec, 4, 1, key=jax.random.key(0), fixed="dense")
    with pytest.raises(ValueError, match="`scales` names blocks .*'z'"):
        nfn_trunk(spec, 4, 1, key=jax.random.key(0), scales={"z": 1.0})
    with pytest.raises(ValueError, match="blocks \\['b1'\\] are missing"):
        blocks = spec.blocks(params_of(spec, jax.random.key(0)))
        nfn_trunk(spec, 4, 1, key=jax.random.key(0))({n: b for n, b in blocks.items() if n != "b1"})
    assert "nfn" in methods()
