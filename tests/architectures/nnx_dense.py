"""Dense networks in nnx."""

import jax.numpy as jnp
from flax import nnx

from .linen_common import normal, tokens
from .nnx_common import make
from .registry import case


class MLP(nnx.Module):
    def __init__(self, rngs, activation=nnx.relu):
        self.activation = activation
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.second = nnx.Linear(6, 10, rngs=rngs)
        self.third = nnx.Linear(10, 3, rngs=rngs)

    def __call__(self, x):
        x = self.activation(self.first(x))
        return self.third(self.activation(self.second(x)))


@case("nnx/mlp", [(6, 1), (10, 1)])  # each hidden layer permutes by itself
def mlp(key):
    return make(MLP, key, normal(key, 8, 4))


@case("nnx/mlp_pure_dict", [(6, 1), (10, 1)])  # the same, its parameters a plain dictionary
def mlp_pure_dict(key):
    return make(MLP, key, normal(key, 8, 4), pure=True)


@case("nnx/siren", [(6, 1), (10, 1)])  # sine is one function for all neurons
def siren(key):
    return make(lambda r: MLP(r, lambda x: jnp.sin(3.0 * x)), key, normal(key, 8, 4))


class LoRA(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.LoRALinear(5, 8, lora_rank=3, rngs=rngs)
        base = nnx.Linear(8, 2, rngs=rngs)
        self.second = nnx.LoRA(8, 4, 2, base_module=base, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.gelu(self.first(x)))


@case("nnx/lora", [(8, 1), (3, 1), (4, 1)])  # hidden units and the rank of each adapter
def lora(key):
    return make(LoRA, key, normal(key, 8, 5))


class WeightNorm(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.WeightNorm(nnx.Linear(5, 7, rngs=rngs), rngs=rngs)
        self.second = nnx.WeightNorm(nnx.Linear(7, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.elu(self.first(x)))


@case("nnx/weight_norm", [(7, 1)])  # norms are per output column: as the MLP
def weight_norm(key):
    return make(WeightNorm, key, normal(key, 8, 5))


class BatchNormMLP(nnx.Module):
    def __init__(self, rngs, train):
        self.first = nnx.Linear(4, 6, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=not train, rngs=rngs)
        self.second = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.gelu(self.norm(self.first(x))))


@case("nnx/mlp_batchnorm_eval", [(6, 1)])  # running statistics move with their channels
def mlp_batchnorm_eval(key):
    return make(lambda r: BatchNormMLP(r, False), key, normal(key, 8, 4))


@case(
    "nnx/mlp_batchnorm_train",
    [(6, 1)],  # as in evaluation
    exceptions=("norm/mean", "norm/var"),  # written in training, not read
)
def mlp_batchnorm_train(key):
    return make(lambda r: BatchNormMLP(r, True), key, normal(key, 8, 4))


class General(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.LinearGeneral(5, (3, 4), rngs=rngs)
        self.norm = nnx.RMSNorm(4, rngs=rngs)
        self.second = nnx.LinearGeneral((3, 4), 2, axis=(-2, -1), rngs=rngs)

    def __call__(self, x):
        return self.second(self.norm(nnx.tanh(self.first(x))))


@case("nnx/linear_general", [(3, 1), (4, 1)])  # one norm scale of 4 serves every row: S3 x S4
def linear_general(key):
    return make(General, key, normal(key, 8, 5))


class Bag(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(9, 6, rngs=rngs)
        self.mix = nnx.Einsum("...a,ab->...b", (6, 7), (7,), rngs=rngs)
        self.out = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, ids):
        return self.out(nnx.tanh(self.mix(self.embed(ids).mean(1))))


@case("nnx/embed_mean", [(6, 1), (7, 1)])  # embedding columns, hidden units; words are inputs
def embed_mean(key):
    return make(Bag, key, tokens(key, 7, 4, 9))


class NeRF(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.second = nnx.Linear(8 + 3, 9, rngs=rngs)
        self.third = nnx.Linear(9 + 3, 4, rngs=rngs)

    def __call__(self, x):
        h = nnx.softplus(self.first(x))
        h = nnx.softplus(self.second(jnp.concatenate([h, x], -1)))
        return self.third(jnp.concatenate([x, h], -1))


@case("nnx/nerf", [(8, 1), (9, 1)])  # the position is concatenated after, then before: h+_ and _+h
def nerf(key):
    return make(NeRF, key, normal(key, 8, 3))
