"""Stacks in equinox: layers made by ``filter_vmap`` and scanned, ensembles, wrappers."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.random import split

from .equinox_attention import Block
from .equinox_common import make
from .linen_common import normal
from .registry import case


class Residual(eqx.Module):
    norm: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.norm = eqx.nn.LayerNorm(8)
        self.mlp = eqx.nn.MLP(8, 8, 6, 1, jax.nn.gelu, key=key)

    def __call__(self, x):
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm)(x))


class Stack(eqx.Module):
    inside: eqx.nn.Linear
    layers: eqx.Module
    out: eqx.nn.Linear
    wrap: staticmethod = eqx.field(static=True)

    def __init__(self, build, depth, key, wrap=lambda f: f):
        k1, k2, k3 = split(key, 3)
        self.inside = eqx.nn.Linear(3, 8, key=k1)
        self.layers = eqx.filter_vmap(build)(split(k2, depth))
        self.out = eqx.nn.Linear(8, 2, key=k3)
        self.wrap = wrap

    def __call__(self, x):
        params, static = eqx.partition(self.layers, eqx.is_array)

        def step(x, params):
            return eqx.combine(params, static)(x), None

        x, _ = jax.lax.scan(self.wrap(step), jax.vmap(self.inside)(x), params)
        return jax.vmap(self.out)(x)


@case("equinox/scan", [(8, 1), (6, 3)])  # one stream; hidden units of each of three layers
def scan(key):
    return make(lambda k: Stack(Residual, 3, k), key, normal(key, 3, 4, 3))


@case("equinox/scan_checkpoint", [(8, 1), (6, 3)])  # recomputation changes nothing
def scan_checkpoint(key):
    return make(lambda k: Stack(Residual, 3, k, jax.checkpoint), key, normal(key, 3, 4, 3))


# stream; heads and hidden units of each of two layers; q/k and v dims of each head of each layer
@case("equinox/scan_transformer", [(8, 1), (2, 2), (4, 4), (4, 4), (9, 2)])
def scan_transformer(key):
    return make(lambda k: Stack(lambda k: Block(9, k), 2, k), key, normal(key, 3, 4, 3))


class Wrapped(eqx.Module):
    first: eqx.nn.Linear
    second: Residual
    third: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3 = split(key, 3)
        self.first = eqx.nn.Linear(3, 8, key=k1)
        self.second = Residual(k2)
        self.third = eqx.nn.Linear(8, 2, key=k3)

    def __call__(self, x):
        x = eqx.filter_jit(lambda m, x: jnp.tanh(jax.vmap(m)(x)))(self.first, x)
        x = eqx.filter_checkpoint(self.second)(x)
        return jax.vmap(self.third)(x)


@case("equinox/jit_checkpoint", [(8, 1), (6, 1)])  # wrappers are transparent
def jit_checkpoint(key):
    return make(Wrapped, key, normal(key, 3, 4, 3))


class Ensemble(eqx.Module):
    members: eqx.nn.MLP
    router: eqx.nn.Linear | None
    average: bool

    def __init__(self, key, average=False, router=False):
        k1, k2 = split(key)
        build = lambda k: eqx.nn.MLP(4, 2, 5, 2, jnp.tanh, key=k)  # noqa: E731
        self.members = eqx.filter_vmap(build)(split(k1, 3))
        self.router = eqx.nn.Linear(4, 3, key=k2) if router else None
        self.average = average

    def __call__(self, x):
        y = eqx.filter_vmap(lambda m, x: m(x), in_axes=(eqx.if_array(0), None))(self.members, x)
        if self.router is not None:
            return jax.nn.softmax(self.router(x)) @ y
        return y.mean(0) if self.average else y


@case("equinox/ensemble", [(5, 3), (5, 3)])  # two hidden layers of each member; members stay
def ensemble(key):
    return make(Ensemble, key, normal(key, 7, 4))


# averaged members permute as well; of the last biases only the mean matters
@case("equinox/ensemble_mean", [(3, 1), (5, 3), (5, 3)], exceptions=("members/layers/2/bias",))
def ensemble_mean(key):
    return make(lambda k: Ensemble(k, average=True), key, normal(key, 7, 4))


@case("equinox/mixture", [(3, 1), (5, 3), (5, 3)])  # experts permute with the router's rows
def mixture(key):
    return make(lambda k: Ensemble(k, router=True), key, normal(key, 7, 4))
