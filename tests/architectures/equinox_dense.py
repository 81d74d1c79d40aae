"""Dense networks in equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .equinox_common import make, make_stateful
from .linen_common import normal, tokens
from .registry import case


@case("equinox/mlp", [(9, 1), (9, 1)])  # two hidden layers of the same width, yet independent
def mlp(key):
    return make(lambda k: eqx.nn.MLP(4, 3, 9, 2, jax.nn.gelu, key=k), key, normal(key, 8, 4))


@case("equinox/siren", [(8, 1), (8, 1)])  # sine is one function for all neurons
def siren(key):
    def activation(x):
        return jnp.sin(3.0 * x)

    return make(lambda k: eqx.nn.MLP(2, "scalar", 8, 2, activation, key=k), key, normal(key, 8, 2))


class Sequential(eqx.Module):
    layers: eqx.nn.Sequential
    slope: eqx.nn.PReLU

    def __init__(self, key):
        k1, k2 = jax.random.split(key)
        self.slope = eqx.nn.PReLU()
        self.layers = eqx.nn.Sequential(
            [
                eqx.nn.Linear(5, 7, key=k1),
                eqx.nn.Lambda(jnp.tanh),
                eqx.nn.LayerNorm(7),
                eqx.nn.Linear(7, 3, use_bias=False, key=k2),
            ]
        )

    def __call__(self, x):
        return self.slope(self.layers(x))


@case("equinox/sequential", [(7, 1)])  # hidden units, with the norm's weight and bias
def sequential(key):
    return make(Sequential, key, normal(key, 8, 5))


class WeightNorm(eqx.Module):
    first: eqx.nn.WeightNorm
    second: eqx.nn.WeightNorm

    def __init__(self, key):
        k1, k2 = jax.random.split(key)
        self.first = eqx.nn.WeightNorm(eqx.nn.Linear(5, 7, key=k1))
        self.second = eqx.nn.WeightNorm(eqx.nn.Linear(7, 3, key=k2), axis=None)

    def __call__(self, x):
        return self.second(jax.nn.softplus(self.first(x)))


@case("equinox/weight_norm", [(7, 1)])  # per output row, then over the whole matrix
def weight_norm(key):
    return make(WeightNorm, key, normal(key, 8, 5))


class SpectralNorm(eqx.Module):
    first: eqx.nn.SpectralNorm
    second: eqx.nn.SpectralNorm

    def __init__(self, key):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.first = eqx.nn.SpectralNorm(eqx.nn.Linear(5, 7, key=k1), "weight", key=k2)
        self.second = eqx.nn.SpectralNorm(eqx.nn.Linear(7, 3, key=k3), "weight", key=k4)

    def __call__(self, x, state):
        x, state = self.first(x, state)
        return self.second(jnp.tanh(x), state)


@case("equinox/spectral_norm", [(7, 1)])  # stored singular vectors: u of outputs, v of inputs
def spectral_norm(key):
    return make_stateful(SpectralNorm, key, normal(key, 8, 5), inference=True)


class Autoencoder(eqx.Module):
    shared: eqx.nn.Shared

    def __init__(self, key):
        k1, k2 = jax.random.split(key)
        pair = eqx.nn.Linear(5, 8, key=k1), eqx.nn.Linear(8, 5, key=k2)
        self.shared = eqx.nn.Shared(pair, lambda p: p[1].weight, lambda p: p[0].weight.T)

    def __call__(self, x):
        encode, decode = self.shared()
        return decode(jnp.tanh(encode(x)))


@case("equinox/tied_autoencoder", [(8, 1)])  # the code; the transpose reuses the same axis
def tied_autoencoder(key):
    return make(Autoencoder, key, normal(key, 8, 5))


class NeRF(eqx.Module):
    first: eqx.nn.Linear
    second: eqx.nn.Linear
    third: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3 = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(3, 8, key=k1)
        self.second = eqx.nn.Linear(8 + 3, 9, key=k2)
        self.third = eqx.nn.Linear(9, 4, key=k3)

    def __call__(self, x):
        h = jax.nn.softplus(self.first(x))
        return self.third(jax.nn.softplus(self.second(jnp.concatenate([h, x]))))


@case("equinox/nerf", [(8, 1), (9, 1)])  # hidden layers; the skipped position is an input
def nerf(key):
    return make(NeRF, key, normal(key, 8, 3))


class LoRALinear(eqx.Module):
    base: eqx.nn.Linear
    down: jax.Array
    up: jax.Array

    def __init__(self, base, rank, key):
        self.base = base
        self.down = jax.random.normal(key, (rank, base.in_features))
        self.up = jnp.zeros((base.out_features, rank))

    def __call__(self, x):
        return self.base(x) + self.up @ (self.down @ x)


class LoRA(eqx.Module):
    first: LoRALinear
    second: LoRALinear

    def __init__(self, key):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.first = LoRALinear(eqx.nn.Linear(5, 8, key=k1), 3, k2)
        self.second = LoRALinear(eqx.nn.Linear(8, 2, key=k3), 4, k4)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


@case("equinox/lora", [(8, 1), (3, 1), (4, 1)])  # hidden units and the rank of each adapter
def lora(key):
    return make(LoRA, key, normal(key, 8, 5))


class Bag(eqx.Module):
    embed: eqx.nn.Embedding
    out: eqx.nn.MLP

    def __init__(self, key):
        k1, k2 = jax.random.split(key)
        self.embed = eqx.nn.Embedding(9, 6, key=k1)
        self.out = eqx.nn.MLP(6, 3, 8, 1, jnp.tanh, key=k2)

    def __call__(self, ids):
        return self.out(jax.vmap(self.embed)(ids).mean(0))


@case("equinox/embed_mean", [(6, 1), (8, 1)])  # embedding columns, hidden units; words are inputs
def embed_mean(key):
    return make(Bag, key, tokens(key, 7, 4, 9))
