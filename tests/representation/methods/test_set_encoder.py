"""The set encoder: one set of parameters for any architecture; exact and learned invariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures.registry import quickly
from tests.representation.specs import SPECS, params_of, spec_of
from wsljax.representation import Editor, Metanetwork

KEY = jax.random.key(0)
EXACT = ("mlp", "rnn", "heads", "twice nested", "scanned heads", "packed heads", "width one")


def distance(a, b) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "rnn" else pytest.mark.slow) for n in EXACT],
)
def test_rows_are_exact(name):
    spec = spec_of(SPECS[name])
    options = {"method": "set_encoder", "chunk": None, "dtype": jnp.float64}

    @quickly
    def call(params):
        net = Metanetwork(spec, 4, 1, 2, key=KEY, **options)
        return net(params), Editor(spec, 4, 1, key=KEY, **options)(params)

    params, other = (params_of(spec, jax.random.key(k)) for k in (1, 2))
    g = spec.sample(jax.random.key(5))
    (answer, edited), (far, far_edited) = call(params), call(other)
    moved, moved_edited = call(spec.act(g, params))
    assert distance(answer, far) > 1e-3
    assert distance(moved, answer) <= 1e-10 * distance(answer, far)
    assert distance(moved_edited, spec.act(g, edited)) <= 1e-10 * distance(edited, far_edited)


@pytest.mark.slow
def test_one_encoder_reads_networks_of_any_architecture():
    """Drawn for one network it reads others, of other depth and kind, and every weight of them counts."""
    drawn, other = (spec_of(SPECS[name]) for name in ("mlp", "flatten"))
    params = params_of(other, jax.random.key(1))

    @quickly
    def run(params):
        nets = [
            Metanetwork(spec, 4, 1, 2, key=KEY, method="set_encoder", chunk=4, dtype=jnp.float64)
            for spec in (drawn, other)
        ]
        answers = nets[0](params, other), nets[1](params)
        return answers, jax.grad(lambda p: jnp.sum(nets[0](p, other)))(params)

    (foreign, own), sizes = run(params)
    np.testing.assert_allclose(foreign, own, atol=1e-12)
    assert all(bool((x != 0).all()) for x in jax.tree.leaves(sizes))


def test_the_order_of_layers_and_of_chunks_counts():
    spec = spec_of({"w1": ((4, 4), "a b"), "w2": ((4, 4), "b c")})
    params = params_of(spec, KEY)
    swapped = {"w1": params["w2"], "w2": params["w1"]}
    turned = {**params, "w1": jnp.roll(params["w1"], 1, 0)}  # whole chunks of four change places
    for chunk in (4, None):
        net = Metanetwork(
            spec, 8, 1, 2, key=KEY, method="set_encoder", chunk=chunk, dtype=jnp.float64
        )
        call = quickly(lambda p, net=net: net(p))
        spread = distance(call(params), call(params_of(spec, jax.random.key(1))))
        assert distance(call(swapped), call(params)) > 1e-3 * spread
        moves = distance(call(turned), call(params))
        assert moves < 1e-12 if chunk is None else moves > 1e-3 * spread


def test_bad_input_is_named():
    spec = spec_of(SPECS["mlp"])
    params = params_of(spec, KEY)
    with pytest.raises(ValueError, match="`chunk` must be positive"):
        Metanetwork(spec, 4, 1, 1, key=KEY, method="set_encoder", chunk=0)
    with pytest.raises(ValueError, match="does not have: \\['nothing'\\]"):
        Metanetwork(spec, 4, 1, 1, key=KEY, method="set_encoder", scales={"nothing": 1.0})
    with pytest.raises(ValueError, match="no option \\['queries'\\]"):
        Metanetwork(spec, 4, 1, 1, key=KEY, method="set_encoder", pooling={"queries": 2})
    net = Metanetwork(spec, 4, 1, 1, key=KEY, method="set_encoder", c_in=2)
    with pytest.raises(ValueError, match="block 'b0' has shape"):
        net(params)
