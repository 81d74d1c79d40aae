"""Small networks in linen with something unusual about their parameters or their randomness."""

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp

from .linen_common import make, normal, tokens
from .linen_dense import MLP
from .registry import case


class Boxed(nn.Module):
    """Parameters in boxes that carry sharding names, as large-model code has them."""

    @nn.compact
    def __call__(self, x):
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        x = nn.Sequential([nn.Dense(7, kernel_init=kernel), nn.PReLU(), nn.LayerNorm()])(x)
        return nn.Dense(3, kernel_init=kernel)(x)


@case("linen/partitioned", [(7, 1)])  # boxes do not matter
def partitioned(key):
    return make(Boxed(), key, normal(key, 8, 4))


@case("linen/frozen_dict", [(6, 1), (10, 1)])  # nor does the kind of dictionary
def frozen_dict(key):
    fn, params, inputs = make(MLP((6, 10, 3), nn.gelu), key, normal(key, 8, 4))
    return fn, flax.core.freeze(params), inputs


class Dropout(nn.Module):
    shared: bool

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(8)(x))
        drop = nn.Dropout(0.5, broadcast_dims=(1,) if self.shared else (), deterministic=False)
        return nn.Dense(2)(nn.tanh(nn.Dense(5)(drop(x, rng=jax.random.key(3)))))


@case("linen/dropout", [(5, 1)])  # the fixed mask tells the eight units apart, and only those
def dropout(key):
    return make(Dropout(False), key, normal(key, 8, 4))


@case("linen/dropout_shared", [(8, 1), (5, 1)])  # one mask for all units of a sample
def dropout_shared(key):
    return make(Dropout(True), key, normal(key, 8, 4))


class Factors(nn.Module):
    """Matrix factorisation: users and items meet in a dot product."""

    @nn.compact
    def __call__(self, users, items):
        u = nn.Embed(7, 5, name="users")(users)
        v = nn.Embed(6, 5, name="items")(items)
        bias = nn.Embed(6, 1, name="bias")(items)
        return jnp.sum(u * v, axis=-1) + bias[..., 0]


@case("linen/factorisation", [(5, 1)])  # both tables share their columns; rows are inputs
def factorisation(key):
    return make(Factors(), key, tokens(key, 6, 4, 7), tokens(key, 6, 4, 6))


class TwoHeads(nn.Module):
    """One trunk, two heads, a dictionary of outputs, and a temperature of no axis."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(9)(x))
        value = nn.Dense(1)(nn.tanh(nn.Dense(5)(x)))[..., 0]
        temperature = self.param("temperature", nn.initializers.ones, ())
        return {"value": value, "policy": nn.log_softmax(nn.Dense(4)(x) / temperature)}


@case(
    "linen/two_heads",
    [(9, 1), (5, 1)],  # the trunk, the hidden layer of one head
)
def two_heads(key):
    return make(TwoHeads(), key, normal(key, 8, 3))


class Square(nn.Module):
    """Hidden units in a rectangle, read by rows and by columns."""

    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.Dense(12)(x)).reshape(-1, 4, 3)
        rows, columns = h.max(-1), h.min(-2)
        return nn.Dense(2)(jnp.concatenate([rows, columns], -1))


@case("linen/rows_and_columns", [(4, 1), (3, 1)])  # rows and columns both mean something: S4 x S3
def rows_and_columns(key):
    return make(Square(), key, normal(key, 9, 5))
