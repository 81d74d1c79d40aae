"""Neural functional transformers, and the array that INR2ARRAY makes of a network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Features, structure
from wsljax.representation.methods.ends import recut
from wsljax.representation.methods.inr2array import Inr2Array
from wsljax.representation.methods.nft import TransformerLayer, WeightAttention, nft_trunk
from wsljax.representation.parts import unit_attention as module
from wsljax.representation.parts.unit_attention import attend, meetings, unit_attention

from ..specs import SPECS, act, features_of, params_of, spec_of
from ..test_program import deep, equations
from .spans import mlp

KEPT = 1e-10


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(qkv: dict[str, np.ndarray], layers: int, heads: int) -> dict[str, np.ndarray]:
    """Between the neurons of layer ``i - 1`` and ``i`` stands ``w{i-1}``: for every layer of neurons
    the columns before it, its bias and the rows behind it, one after the other and in plain loops."""
    c = qkv["w0"].shape[-1] // 3
    out = {n: np.zeros((*x.shape[:-1], c)) for n, x in qkv.items()}
    for i in range(layers + 1):
        tokens = []  # (block, index) of rows over the neurons of layer i
        if i > 0:
            tokens += [(f"w{i - 1}", (k, slice(None))) for k in range(qkv[f"w{i - 1}"].shape[0])]
            tokens += [(f"b{i - 1}", (slice(None),))]
        if i < layers:
            tokens += [(f"w{i}", (slice(None), k)) for k in range(qkv[f"w{i}"].shape[1])]
        for h in range(heads):
            own = slice(h * c // heads, (h + 1) * c // heads)
            q, k, v = (
                np.array([qkv[b][at][:, n * c : (n + 1) * c][:, own].ravel() for b, at in tokens])
                for n in range(3)
            )
            y = softmax(q @ k.T / np.sqrt(q.shape[1])) @ v
            for (b, at), row in zip(tokens, y, strict=True):
                out[b][at][:, own] += row.reshape(-1, c // heads)
    return out


def test_on_a_perceptron_it_is_the_published_attention():
    """Written out by hand, for two heads, with free ends."""
    own = recut(mlp(2, 3, 4, 2), "free")
    qkv = features_of(own, 12, jax.random.key(0))
    x = Features.of(structure(own), qkv)
    found = quickly(lambda x: Features(tuple(unit_attention(x, 2)), x.structure, x.groups))(x)
    expected = by_hand({n: np.asarray(a) for n, a in qkv.items()}, 3, 2)
    for n, a in found.blocks().items():
        assert np.abs(np.asarray(a) - expected[n]).max() < 1e-12


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("twice nested",) else pytest.mark.slow) for n in SPECS],
)
def test_a_layer_is_equivariant(name):
    spec = spec_of(SPECS[name])

    @quickly
    def run(blocks):
        layer = TransformerLayer(spec, 4, heads=2, key=jax.random.key(0), dtype=jnp.float64)
        return layer(Features.of(structure(spec), blocks)).blocks()

    x, other = (features_of(spec, 4, jax.random.key(k)) for k in (1, 2))
    y, far = run(x), run(other)
    g = spec.sample(jax.random.key(3))
    moved = run(act(spec, g, x))
    for n, expected in act(spec, g, y).items():
        spread = float(jnp.abs(y[n] - far[n]).max())
        assert spread > 1e-3
        assert np.abs(np.asarray(moved[n]) - expected).max() <= KEPT * spread
    units = [n for n in y if structure(spec)[[b.name for b in structure(spec)].index(n)].labels]
    alone = {**x, units[0]: jnp.flip(x[units[0]], 0)}
    assert (
        max(float(jnp.abs(v - y[n]).max()) for n, v in run(alone).items() if n != units[0]) > 1e-6
    )


def test_few_queries_at_a_time_change_nothing(monkeypatch):
    """Values and gradients; what does not divide the number of tokens is cut off again."""
    q, k, v = (jax.random.normal(jax.random.key(s), (2, 7, 4)) for s in range(3))

    def run(q, k, v):
        loss = jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(attend(*a))), (0, 1, 2))
        return quickly(lambda *a: loss(*a))(q, k, v)

    whole = run(q, k, v)
    monkeypatch.setattr(module, "QUERIES_AT_ONCE", 3)
    for a, b in zip(*map(jax.tree.leaves, (run(q, k, v), whole)), strict=True):
        assert jnp.abs(a - b).max() < 1e-12


def test_a_program_does_not_grow_with_equal_layers():
    counts = []
    for depth in (8, 16):
        spec = deep(depth, same=True)
        shapes = {
            b.name: jax.ShapeDtypeStruct((*(spec.size_of(a) for a in b.labels), 4), jnp.float32)
            for b in structure(spec)
        }
        layer = WeightAttention(4, heads=2, key=jax.random.key(0))
        x = jax.eval_shape(lambda v, spec=spec: Features.of(structure(spec), v), shapes)
        counts.append(equations(lambda x, layer=layer: layer(x).arrays, x))
        assert len(meetings(x.structure, x.groups)) == 3  # first, inner and last units
    assert counts[0] == counts[1] < 250


FN_WIDTHS = (2, 6, 1)


def siren(params: dict, x: jax.Array) -> jax.Array:
    return jnp.sin(x @ params["w0"] + params["b0"]) @ params["w1"] + params["b1"]


@pytest.fixture(scope="module")
def autoencoder() -> tuple[symmetry.Spec, Inr2Array]:
    spec = mlp(*FN_WIDTHS)
    draw = quickly(
        lambda: eqx.filter(
            Inr2Array(spec, latents=3, channels=8, layers=1, key=jax.random.key(0)), eqx.is_array
        )
    )
    rest = eqx.filter_eval_shape(
        Inr2Array, spec, latents=3, channels=8, layers=1, key=jax.random.key(0)
    )
    rest = eqx.filter(rest, lambda x: not isinstance(x, jax.ShapeDtypeStruct))
    return spec, eqx.combine(draw(), rest)


def test_the_array_is_invariant_and_tells_networks_apart(autoencoder):
    spec, net = autoencoder
    params, other = (params_of(spec, jax.random.key(k)) for k in (1, 2))
    moved = spec.act(spec.sample(jax.random.key(3)), params)
    alone = {**params, "b0": params["b0"][::-1]}
    batch = jax.tree.map(lambda *x: jnp.stack(x), params, moved, alone, other)
    latents, decoded = quickly(jax.vmap(lambda p: (net.encode(p), net(p))))(batch)
    assert latents.shape == (4, 3, 8) and latents.dtype == jnp.float64
    spread = jnp.abs(latents[0] - latents[3]).max()
    assert spread > 1e-2
    assert jnp.abs(latents[0] - latents[1]).max() <= 1e-6 * spread  # weights drawn in float32
    assert jnp.abs(latents[0] - latents[2]).max() > 1e-4 * spread
    assert jax.tree.map(lambda x: x.shape[1:], decoded) == jax.tree.map(jnp.shape, params)
    for x in decoded.values():  # not one network for all, and units differ
        assert jnp.abs(x[0] - x[3]).max() > 1e-3
    assert jnp.std(decoded["b0"][0]) > 1e-2


@pytest.mark.slow
def test_it_learns_to_compute_what_the_network_computes(autoencoder):
    """A few steps with a loss on outputs: better than the mean of all networks, by far."""
    spec, net = autoencoder
    x = jax.random.uniform(jax.random.key(0), (32, 2), minval=-1)
    nets = jax.vmap(lambda k: params_of(spec, k, jnp.float32))(
        jax.random.split(jax.random.key(1), 8)
    )
    targets = jax.vmap(siren, (0, None))(nets, x)
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    optimiser = optax.adam(3e-3)

    def loss(arrays):
        decoded = jax.vmap(eqx.combine(arrays, rest))(nets)
        return jnp.mean((jax.vmap(siren, (0, None))(decoded, x) - targets) ** 2)

    def step(carry, _):
        arrays, state = carry
        value, grads = jax.value_and_grad(loss)(arrays)
        updates, state = optimiser.update(grads, state)
        return (optax.apply_updates(arrays, updates), state), value

    losses = quickly(lambda a: jax.lax.scan(step, (a, optimiser.init(a)), None, length=300)[1])(
        arrays
    )
    assert losses[-1] < 0.3 * jnp.mean(jnp.var(targets, axis=0)) < losses[0]


@pytest.mark.slow
def test_other_widths_are_decoded_too(autoencoder):
    _, net = autoencoder
    wide = mlp(2, 9, 1)
    params = params_of(wide, jax.random.key(1), jnp.float32)
    out = quickly(lambda p: net(p, wide))(params)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, params)


def test_bad_options_are_named(autoencoder):
    spec, net = autoencoder
    with pytest.raises(ValueError, match="`heads` must divide the 6 channels; got 4"):
        nft_trunk(spec, 6, 1, key=jax.random.key(0), heads=4)
    with pytest.raises(ValueError, match="`latents` must be positive"):
        Inr2Array(spec, latents=0, channels=8, key=jax.random.key(0))
    with pytest.raises(ValueError, match="expected \\(3, 8\\); use jax.vmap"):
        net.decode(jnp.zeros((2, 3, 8)))
