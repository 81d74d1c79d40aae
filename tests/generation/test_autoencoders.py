"""Autoencoders: closed forms of their losses, invariance, padding, and latents of one size."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.generation.autoencoders import (
    ConvolutionAutoencoder,
    EquivariantAutoencoder,
    Reconstruction,
    TokenAutoencoder,
    answers,
    fit_autoencoder,
    latent_space,
    mean_squared,
)
from wsljax.generation.spaces import (
    FlatSpace,
    IdentitySpace,
    TokenSpace,
    WeightSpace,
    fit_spaces,
)

COUNT = 6
SHAPES = {"w0": (2, 3), "b0": (3,), "w1": (3, 2), "b1": (2,)}
SPEC = symmetry.parse(
    {k: np.zeros(s) for k, s in SHAPES.items()},
    {"w0": "_ h", "b0": "h", "w1": "h _", "b1": "_"},
)


def networks(count: int = COUNT, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(count, *shape)) for name, shape in SHAPES.items()}


def member(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda a: a[n], tree)


def predict(params: dict, x: Any) -> Any:
    return jnp.tanh(x @ params["w0"] + params["b0"]) @ params["w1"] + params["b1"]


def flat_space() -> Any:
    return FlatSpace.fit(networks())


def token_space() -> Any:
    return TokenSpace.fit(networks())


def weight_space() -> Any:
    return WeightSpace.fit(networks(), spec=SPEC)


def tokens(space: Any, key: Any, **options: Any) -> TokenAutoencoder:
    positions = space.tokeniser.positions
    options = {"positions": positions, "mask": space.tokeniser.mask, **options}
    return TokenAutoencoder(space.like, 2, 8, 1, key=key, **options)


def convolution(space: Any, key: Any, **options: Any) -> ConvolutionAutoencoder:
    return ConvolutionAutoencoder(space.like, 2, (4, 4), kernel=3, key=key, **options)


def equivariant(space: Any, key: Any, **options: Any) -> EquivariantAutoencoder:
    return EquivariantAutoencoder(space.spec, space.like, 2, 3, 4, layers=1, key=key, **options)


KINDS = {
    "tokens": (token_space, tokens),
    "convolution": (flat_space, convolution),
    "equivariant": (weight_space, equivariant),
}
ALL = [pytest.param(n, marks=() if n == "convolution" else pytest.mark.slow) for n in KINDS]


def built(kind: str, **options: Any) -> tuple[Any, Any]:
    """The space and an autoencoder on it, in float64."""
    space, build = KINDS[kind][0](), KINDS[kind][1]
    rest = None

    @quickly
    def arrays():
        nonlocal rest
        found, rest = eqx.partition(
            build(space, quick_random.key(0), **options), eqx.is_inexact_array
        )
        return jax.tree.map(lambda a: a.astype(jnp.float64), found)

    return space, eqx.combine(arrays(), rest)


plain = functools.lru_cache(maxsize=None)(built)


@pytest.mark.parametrize("kind", ALL)
def test_the_loss_is_what_it_says(kind):
    """Against the parts, computed here: error and divergence of every network; its own draws only if asked."""
    space, net = plain(kind)
    x = space.encode_all(networks())

    @quickly
    def run(x):
        posterior = jax.vmap(net.posterior)(x)
        decoded = jax.vmap(lambda x: net.decode(net.encode(x)))(x)
        return posterior, decoded, net.loss(x, key=quick_random.key(1))

    (mean, log_variance), decoded, (loss, parts) = run(x)
    assert mean.shape == log_variance.shape == (COUNT, *net.latent)
    assert jax.tree.map(jnp.shape, decoded) == jax.tree.map(jnp.shape, x)
    expected = 0.5 * np.mean(np.square(mean) + np.exp(log_variance) - 1 - log_variance)
    assert np.allclose(parts["divergence"], expected)
    assert np.allclose(loss, parts["reconstruction"] + net.kl * parts["divergence"])
    off = np.mean([mean_squared(member(decoded, n), member(x, n)) for n in range(COUNT)])
    if net.kl == 0:
        assert np.allclose(parts["reconstruction"], off)
    else:
        assert not np.allclose(parts["reconstruction"], off)


def test_noise_is_added_where_it_is_asked_for():
    space = flat_space()
    x = space.encode_all(networks())[:2]

    @quickly
    def run(keys):
        losses = {}
        for name in ("none", "input_noise", "latent_noise", "kl"):
            options = {} if name == "none" else {name: 0.5}
            net = convolution(space, quick_random.key(0), **options)
            losses[name] = jax.vmap(lambda k, net=net: net.loss(x, key=k)[1])(keys)
        return losses

    losses = run(jax.random.split(quick_random.key(1)))
    first, second = losses["none"]["reconstruction"]
    assert first == second
    for name in ("input_noise", "latent_noise", "kl"):
        first, second = losses[name]["reconstruction"]
        assert first != second, f"{name} adds nothing"


@pytest.mark.slow
def test_invariant_latents():
    """Networks with units exchanged: the same latents, and the same loss by what they answer."""
    space, _ = plain("equivariant")
    probes = np.random.default_rng(1).normal(size=(5, 2))
    distance = answers(predict, space, probes)
    _, net = built("equivariant", distance=distance, kl=0.0)
    one = jax.tree.map(lambda a: a[0], networks())
    other = jax.tree.map(lambda a: a[1], networks())
    g = SPEC.sample(quick_random.key(5))

    @quickly
    def run(params):
        x = space.encode(params)
        loss, _ = net.loss(jax.tree.map(lambda a: a[None], x), key=quick_random.key(0))
        return net.encode(x), loss

    (z, loss), (same, same_loss), (far, _) = run(one), run(SPEC.act(g, one)), run(other)
    spread = np.max(np.abs(far - z))
    assert spread > 1e-3
    assert np.max(np.abs(same - z)) < 1e-10 * spread
    assert abs(same_loss - loss) < 1e-10 * loss
    assert distance(space.encode(SPEC.act(g, one)), space.encode(one)) < 1e-20


@pytest.mark.slow
def test_padding_is_not_read_and_not_written():
    space, net = plain("tokens")
    mask = np.asarray(space.mask, bool)
    assert not mask.all()
    x = space.encode(jax.tree.map(lambda a: a[0], networks()))
    filled = np.where(mask, x, 1e6)

    @quickly
    def run(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(net.decode(net.encode(x)) + 1)))(x), net.decode(
            net.encode(x)
        )

    grad, out = run(filled)
    assert np.array_equal(out, run(np.asarray(x))[1])
    assert not np.asarray(out)[~mask].any() and not np.asarray(grad)[~mask].any()
    assert np.asarray(grad)[mask].all()


def test_every_layer_is_measured_by_its_spread():
    """Layers a hundred times as large do not count for more; padding does not count at all."""
    stack = networks(50)
    large = {**stack, "w1": 100 * stack["w1"] + 7}
    off = {name: 0.1 * np.std(x) * np.ones(x.shape[1:]) for name, x in large.items()}
    one = jax.tree.map(lambda a: a[0], large)
    predicted = jax.tree.map(np.add, one, off)
    assert np.allclose(Reconstruction.fit(large)(predicted, one), 0.01, rtol=1e-5)

    space = TokenSpace.fit(large)
    error = Reconstruction.of(space, large)
    tokens = np.asarray(space.encode_all(large))
    mask, layers = np.asarray(space.mask, bool), space.tokeniser.positions[:, 1]
    assert error.size == mask.sum() and len(np.unique(layers)) > 1
    shift = np.zeros(mask.shape)
    for layer in np.unique(layers):
        inside = (layers == layer)[:, None] & mask
        shift[inside] = 0.1 * np.std(tokens[:, inside])
    shift[~mask] = np.nan
    assert np.allclose(error(tokens[0] + shift, tokens[0]), 0.01, rtol=1e-5)

    vectors = FlatSpace.fit(large)
    x = np.asarray(vectors.encode_all(large))
    of_layers = np.concatenate(
        [0.1 * np.std(large[k]) * np.ones(large[k][0].size) for k in sorted(large)]
    )
    assert np.allclose(Reconstruction.of(vectors, large)(x[0] + of_layers, x[0]), 0.01, rtol=1e-5)
    normalised = fit_spaces(large, functools.partial(WeightSpace.fit, kind="leaf"), FlatSpace.fit)
    flat = Reconstruction.of(normalised, large)
    assert np.allclose(flat.weights[0].array, 1.0, rtol=1e-4)
    with pytest.raises(ValueError, match="`layers` has shape"):
        Reconstruction.fit(large, layers=np.zeros(3))


def test_constant_layers_do_not_count_for_more():
    stack = {"w": np.random.default_rng(0).normal(size=(9, 4)), "dead": np.full((9, 2), 3.0)}
    error = Reconstruction.fit(stack)
    assert all(np.isfinite(w.array).all() for w in error.weights)


def test_latents_are_brought_to_one_size():
    """However large they are: here around 100 with a deviation of 30, one of them constant."""
    space, net = plain("convolution")
    stack = networks(30, seed=3)
    weight, bias = net.bottom.weight * 30, net.bottom.bias + 100
    net = eqx.tree_at(
        lambda n: (n.bottom.weight, n.bottom.bias), net, (weight.at[:, 1].set(0), bias)
    )
    raw = jax.vmap(net.encode)(space.encode_all(stack))
    assert np.mean(np.abs(raw)) > 50
    latents = latent_space(net, space, stack)
    z = np.asarray(latents.encode_all(stack))
    assert latents.like.shape == z.shape[1:] == (2,)
    assert np.allclose(z.mean(axis=0), 0, atol=1e-9) and np.allclose(z.std(axis=0), (1, 0))
    one = jax.tree.map(lambda a: a[0], stack)
    assert np.allclose(latents.encode(one), z[0])
    decoded = space.decode(net.decode(net.encode(space.encode(one))))
    assert all(np.allclose(decoded[k], v) for k, v in latents.decode(jnp.asarray(z[0])).items())
    together = np.asarray(latent_space(net, space, stack, per="all", chunk=7).encode_all(stack))
    assert np.allclose((together.mean(), together.std()), (0, 1), atol=1e-9)
    assert together.mean(axis=0)[0] * together.mean(axis=0)[1] < 0
    with pytest.raises(ValueError, match="it is 'entry' or 'all'"):
        latent_space(net, space, stack, per="layer")  # pyright: ignore
    broken = eqx.tree_at(lambda n: n.bottom.bias, net, bias * np.nan)
    with pytest.raises(ValueError, match="not finite"):
        latent_space(broken, space, stack)


@pytest.mark.parametrize("kind", ALL)
def test_training_rebuilds_networks(kind):
    """Networks on a line: two latents are enough, and rebuild better than the mean network does."""
    random = np.random.default_rng(0)
    start, step = networks(1, seed=1), networks(1, seed=2)
    along = random.normal(size=32)
    stack = jax.tree.map(
        lambda a, b: (a + along.reshape(-1, *(1,) * (a.ndim - 1)) * b).astype(np.float32),
        start,
        step,
    )
    space = WeightSpace.fit(stack, spec=SPEC)
    if kind != "equivariant":
        second = TokenSpace.fit if kind == "tokens" else FlatSpace.fit
        space = fit_spaces(stack, WeightSpace.fit, second)
    if kind == "tokens":
        net = TokenAutoencoder(space.like, 2, 16, 1, mask=space.mask, kl=0.0, key=jax.random.key(0))
    elif kind == "convolution":
        net = ConvolutionAutoencoder(space.like, 2, (16,), kernel=3, key=jax.random.key(0))
    else:
        net = EquivariantAutoencoder(
            space.spec, space.like, 2, 2, 16, layers=1, kl=0.0, key=jax.random.key(0)
        )
    result = fit_autoencoder(
        net,
        space,
        stack,
        steps=200,
        batch_size=32,
        optimiser=optax.adam(1e-2),
        key=jax.random.key(1),
        every=200,
    )
    x = space.encode_all(stack)
    mean = jax.tree.map(lambda a: a.mean(axis=0), x)
    best = np.mean([mean_squared(mean, member(x, n)) for n in range(32)])
    loss, _ = eqx.filter_jit(result.model.loss)(x, key=jax.random.key(2))
    assert loss < 0.25 * best, f"{float(loss)} against {best} of the mean network"


def test_wrong_calls_are_told():
    space, net = plain("convolution")
    stack = networks()
    stack["w0"][3] = np.nan
    options = {"steps": 1, "batch_size": 2, "optimiser": optax.sgd(0.1), "key": jax.random.key(0)}
    with pytest.raises(ValueError, match="1 networks hold NaN or infinity, the first is 3"):
        fit_autoencoder(net, space, stack, **options)
    with pytest.raises(ValueError, match="jax.vmap"):
        net.decode(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="must be positive"):
        ConvolutionAutoencoder(space.like, 0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`mask` has shape"):
        TokenAutoencoder(jnp.zeros((3, 4)), 2, 8, 1, mask=np.ones(3), key=jax.random.key(0))
    with pytest.raises(ValueError, match="`scale` must be positive"):
        answers(predict, IdentitySpace({"w": jnp.ones(2)}), scale=0.0)
