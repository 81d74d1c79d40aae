"""Dense networks in linen."""

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal, tokens
from .registry import case


class MLP(nn.Module):
    widths: tuple[int, ...]
    activation: staticmethod = nn.relu

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = self.activation(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


@case("linen/mlp", [(6, 1), (10, 1)])  # each hidden layer permutes by itself
def mlp(key):
    return make(MLP((6, 10, 3)), key, normal(key, 8, 4))


@case("linen/siren", [(8, 1), (11, 1)])  # sine is one function for all neurons: as the MLP
def siren(key):
    return make(MLP((8, 11, 1), activation=lambda x: jnp.sin(3.0 * x)), key, normal(key, 8, 2))


class NeRF(nn.Module):
    @nn.compact
    def __call__(self, position, direction):
        h = nn.relu(nn.Dense(8)(position))
        h = nn.relu(nn.Dense(9)(h))
        h = nn.relu(nn.Dense(10)(jnp.concatenate([h, position], axis=-1)))
        density = nn.softplus(nn.Dense(1)(h))
        feature = nn.Dense(7)(h)
        color = nn.relu(nn.Dense(5)(jnp.concatenate([feature, direction], axis=-1)))
        return jnp.concatenate([density, nn.sigmoid(nn.Dense(3)(color))], axis=-1)


# five hidden layers; the skipped position and the direction are inputs, hence fixed
@case("linen/nerf", [(8, 1), (9, 1), (10, 1), (7, 1), (5, 1)])
def nerf(key):
    return make(NeRF(), key, normal(key, 9, 3), normal(key, 9, 2))


class Inside(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(12)(x).reshape(-1, 3, 4)
        return nn.Dense(2)(nn.tanh(h).reshape(-1, 12))


@case("linen/reshape_inside", [(12, 1)])  # the 3 x 4 in the middle is only a way to write 12 units
def reshape_inside(key):
    return make(Inside(), key, normal(key, 8, 5))


class General(nn.Module):
    norm: bool = False
    scale: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.DenseGeneral((3, 4))(x))
        if self.norm:
            h = nn.LayerNorm(use_scale=self.scale, use_bias=False)(h)
        return nn.DenseGeneral(2, axis=(-2, -1))(h)


@case("linen/dense_general", [(12, 1)])  # nothing tells the two hidden axes apart: one set of 12
def dense_general(key):
    return make(General(), key, normal(key, 8, 5))


@case("linen/dense_general_norm", [(3, 1), (4, 3)])  # rows normalised one by one: S4 wr S3
def dense_general_norm(key):
    return make(General(norm=True), key, normal(key, 8, 5))


@case("linen/dense_general_scale", [(3, 1), (4, 1)])  # one scale of 4 serves every row: S3 x S4
def dense_general_scale(key):
    return make(General(norm=True, scale=True), key, normal(key, 8, 5))


class Einsum(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.gelu(nn.Einsum((2, 5, 4), "...ac,abc->...ab")(x))  # one small layer for each row
        return nn.Einsum((2, 5, 3), "...ab,abd->...ad")(h)


@case("linen/einsum", [(5, 2)])  # rows are input and output; each has hidden units of its own
def einsum(key):
    return make(Einsum(), key, normal(key, 7, 2, 4))


class WeightNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.WeightNorm(nn.Dense(7))(x))
        return nn.WeightNorm(nn.Dense(3))(x)


@case("linen/weight_norm", [(7, 1)])  # norms are per output column: as the MLP
def weight_norm(key):
    return make(WeightNorm(), key, normal(key, 8, 5))


class SpectralNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.SpectralNorm(nn.Dense(7))(x, update_stats=False))
        return nn.SpectralNorm(nn.Dense(3))(x, update_stats=False)


@case(
    "linen/spectral_norm",
    [(7, 1)],  # the stored singular vector u is indexed by the outputs
    # the stored norm is written, never read
    exceptions=tuple(f"batch_stats/SpectralNorm_{i}/Dense_{i}/kernel/sigma" for i in (0, 1)),
)
def spectral_norm(key):
    return make(SpectralNorm(), key, normal(key, 8, 5))


class BatchNormMLP(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=not self.train)(nn.Dense(6)(x)))
        x = nn.relu(nn.BatchNorm(use_running_average=not self.train)(nn.Dense(9)(x)))
        return nn.Dense(3)(x)


@case("linen/mlp_batchnorm_eval", [(6, 1), (9, 1)])  # running statistics move with their channels
def mlp_batchnorm_eval(key):
    return make(BatchNormMLP(train=False), key, normal(key, 8, 4))


@case(
    "linen/mlp_batchnorm_train",
    [(6, 1), (9, 1)],
    # batch statistics remove a bias that comes before them, and the stored ones are not read
    exceptions=("params/Dense_0/bias", "params/Dense_1/bias")
    + tuple(f"batch_stats/BatchNorm_{i}/{s}" for i in (0, 1) for s in ("mean", "var")),
)
def mlp_batchnorm_train(key):
    return make(BatchNormMLP(train=True), key, normal(key, 8, 4), mutable=["batch_stats"])


class Bag(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(9, 6)(ids).mean(axis=1)
        return nn.Dense(3)(nn.tanh(nn.Dense(8)(x)))


@case("linen/embed_mean", [(6, 1), (8, 1)])  # embedding columns, hidden units; words are inputs
def embed_mean(key):
    return make(Bag(), key, tokens(key, 7, 4, 9))


class DeepSet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(6)(x))
        x = nn.Dense(7)(x).max(axis=-2)
        return nn.Dense(2)(nn.relu(nn.Dense(5)(x)))


@case("linen/deepset", [(6, 1), (7, 1), (5, 1)])  # phi hidden, pooled features, rho hidden
def deepset(key):
    return make(DeepSet(), key, normal(key, 7, 4, 2))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        for hidden in (5, 6):
            x = x + nn.Dense(8)(nn.gelu(nn.Dense(hidden)(nn.LayerNorm()(x))))
        return nn.Dense(2)(nn.LayerNorm()(x))


@case("linen/residual_mlp", [(8, 1), (5, 1), (6, 1)])  # one residual stream, two hidden layers
def residual_mlp(key):
    return make(Residual(), key, normal(key, 8, 4))
