"""Layers wrapped by linen's transformations: scan, remat, jit, vmap."""

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal
from .linen_transformer import PreNorm
from .registry import case


class Block(nn.Module):
    """A residual layer with the signature that ``nn.scan`` wants."""

    hidden: int = 6

    @nn.compact
    def __call__(self, x, _=None):
        h = nn.gelu(nn.Dense(self.hidden)(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(h), None


class Scanned(nn.Module):
    remat: bool = False
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        layers = nn.scan(
            block, variable_axes={"params": self.axis}, split_rngs={"params": True}, length=3
        )
        x, _ = layers()(nn.Dense(8)(x), None)
        return nn.Dense(2)(x)


@case("linen/scan", [(8, 1), (6, 3)])  # one stream; hidden units of each of three layers
def scan(key):
    return make(Scanned(), key, normal(key, 7, 4))


@case("linen/scan_remat", [(8, 1), (6, 3)])  # recomputation changes nothing
def scan_remat(key):
    return make(Scanned(remat=True), key, normal(key, 7, 4))


@case("linen/scan_axis_one", [(8, 1), (6, 3)])  # layers stacked along another axis of the leaves
def scan_axis_one(key):
    return make(Scanned(axis=1), key, normal(key, 7, 4))


class TransformerBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return PreNorm(9)(x), None


class ScannedTransformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            nn.remat(TransformerBlock, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = layers()(nn.Dense(8)(x), None)
        return nn.Dense(2)(nn.LayerNorm()(x))


# stream; heads and hidden units of each layer; q/k and v dims of each head of each layer
@case("linen/scan_transformer", [(8, 1), (2, 2), (3, 4), (3, 4), (9, 2)])
def scan_transformer(key):
    return make(ScannedTransformer(), key, normal(key, 3, 4, 3))


class Universal(nn.Module):
    """The same layer, iterated: its parameters are broadcast to the scan."""

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(Block, variable_broadcast="params", split_rngs={"params": False}, length=3)
        x, _ = layers()(nn.Dense(8)(x), None)
        return nn.Dense(2)(x)


@case("linen/scan_broadcast", [(8, 1), (6, 1)])  # one layer only, whatever the number of steps
def scan_broadcast(key):
    return make(Universal(), key, normal(key, 7, 4))


class Wrapped(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.jit(nn.Dense)(6)(x)
        x, _ = nn.remat(nn.jit(Block))(9)(nn.tanh(x))
        return nn.Dense(2)(x)


@case("linen/jit_remat", [(6, 1), (9, 1)])  # wrappers are transparent
def jit_remat(key):
    return make(Wrapped(), key, normal(key, 7, 4))


class Member(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(5)(x))
        return nn.Dense(2)(nn.tanh(nn.Dense(6)(x)))


class Ensemble(nn.Module):
    average: bool

    @nn.compact
    def __call__(self, x):
        members = nn.vmap(
            Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=3,
        )
        y = members()(x)
        return y.mean(0) if self.average else y


@case("linen/ensemble", [(5, 3), (6, 3)])  # each member by itself; members are told apart outside
def ensemble(key):
    return make(Ensemble(average=False), key, normal(key, 7, 4))


# averaged members permute as well; of the last biases only the mean matters
@case("linen/ensemble_mean", [(3, 1), (5, 3), (6, 3)], exceptions=("VmapMember_0/Dense_1/bias",))
def ensemble_mean(key):
    return make(Ensemble(average=True), key, normal(key, 7, 4))


class Mixture(nn.Module):
    """Soft mixture of experts: the members above, weighed by a router."""

    @nn.compact
    def __call__(self, x):
        route = nn.softmax(nn.Dense(4)(x))
        experts = nn.vmap(
            Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=-1,
            axis_size=4,
        )
        return jnp.sum(experts()(x) * route[..., None, :], axis=-1)


@case("linen/mixture", [(4, 1), (5, 4), (6, 4)])  # experts with the router; two layers per expert
def mixture(key):
    return make(Mixture(), key, normal(key, 7, 4))
