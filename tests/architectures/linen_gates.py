"""Dense layers in linen whose nonlinearity reads several units at once, or shares its weights."""

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal
from .registry import case


class Split(nn.Module):
    """A packed layer whose two halves gate each other."""

    @nn.compact
    def __call__(self, x):
        x = nn.glu(nn.Dense(12)(x))
        a, b = jnp.split(nn.Dense(10)(x), 2, axis=-1)
        return nn.Dense(3)(nn.silu(a) * b)


@case("linen/glu_packed", [(6, 1), (5, 1)])  # value and gate of a unit move together: h+h
def glu_packed(key):
    return make(Split(), key, normal(key, 8, 4))


class CReLU(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(7)(x)
        return nn.Dense(3)(jnp.concatenate([nn.relu(x), nn.relu(-x)], axis=-1))


@case("linen/crelu", [(7, 1)])  # both halves are the same seven units
def crelu(key):
    return make(CReLU(), key, normal(key, 8, 4))


class Maxout(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(18)(x).reshape(-1, 6, 3).max(axis=-1)
        return nn.Dense(2)(x)


@case("linen/maxout", [(6, 1), (3, 6)])  # units permute; so do the three pieces inside each
def maxout(key):
    return make(Maxout(), key, normal(key, 8, 4))


class GroupSort(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.sort(nn.Dense(15)(x).reshape(-1, 5, 3), axis=-1)
        return nn.Dense(2)(x.reshape(-1, 15))


@case("linen/groupsort", [(5, 1), (3, 5)])  # groups permute; members only before they are sorted
def groupsort(key):
    return make(GroupSort(), key, normal(key, 8, 4))


class Highway(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6)(x)
        for _ in range(2):
            gate = nn.sigmoid(nn.Dense(6)(x))
            x = gate * nn.tanh(nn.Dense(6)(x)) + (1.0 - gate) * x
        return nn.Dense(2)(x)


@case("linen/highway", [(6, 1)])  # carry, gate and transform are added: one stream
def highway(key):
    return make(Highway(), key, normal(key, 8, 4))


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (5, 8))
        hidden = self.param("hidden", nn.initializers.zeros, (8,))
        visible = self.param("visible", nn.initializers.zeros, (5,))
        return nn.sigmoid(x @ kernel + hidden) @ kernel.T + visible


@case("linen/tied_autoencoder", [(8, 1)])  # the code; the transpose reuses the same axis
def tied_autoencoder(key):
    return make(Tied(), key, normal(key, 8, 5))


class Reused(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(6)(x))
        step = nn.Dense(6)
        for _ in range(3):
            x = nn.tanh(step(x))
        return nn.Dense(2)(x)


@case("linen/reused_layer", [(6, 1)])  # the reused kernel maps the units to themselves: "h h"
def reused_layer(key):
    return make(Reused(), key, normal(key, 8, 4))


class LoRADense(nn.Module):
    features: int
    rank: int

    @nn.compact
    def __call__(self, x):
        down = self.param("down", nn.initializers.normal(0.5), (x.shape[-1], self.rank))
        up = self.param("up", nn.initializers.zeros, (self.rank, self.features))
        return nn.Dense(self.features)(x) + 2.0 * (x @ down) @ up


class LoRA(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(LoRADense(8, 3)(x))
        return LoRADense(2, 4)(x)


@case("linen/lora", [(8, 1), (3, 1), (4, 1)])  # hidden units and the rank of each adapter
def lora(key):
    return make(LoRA(), key, normal(key, 8, 5))


class Film(nn.Module):
    """Features shifted and scaled by a function of another input."""

    @nn.compact
    def __call__(self, x, condition):
        h = nn.Dense(7)(x)
        shift, scale = jnp.split(nn.Dense(14)(nn.relu(nn.Dense(5)(condition))), 2, axis=-1)
        return nn.Dense(2)(nn.relu(h * (1.0 + scale) + shift))


@case("linen/film", [(7, 1), (5, 1)])  # shift+scale are packed copies of the features
def film(key):
    return make(Film(), key, normal(key, 8, 4), normal(key, 8, 2))


class Experts(nn.Module):
    """Softly routed experts, each a slice of one stacked parameter."""

    @nn.compact
    def __call__(self, x):
        route = nn.softmax(nn.Dense(4)(x))
        up = self.param("up", nn.initializers.normal(0.5), (4, 5, 6))
        down = self.param("down", nn.initializers.normal(0.5), (4, 6, 3))
        h = nn.relu(jnp.einsum("bd,edh->beh", x, up))
        return jnp.einsum("be,beh,eho->bo", route, h, down)


@case("linen/experts", [(4, 1), (6, 4)])  # experts with the router's columns; hidden per expert
def experts(key):
    return make(Experts(), key, normal(key, 8, 5))
