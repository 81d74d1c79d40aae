"""Recurrent networks in nnx."""

import jax.numpy as jnp
from flax import nnx

from .linen_common import normal
from .nnx_common import make
from .registry import case


class Recurrent(nnx.Module):
    """One cell scanned over time by ``nnx.RNN``, read out at the last step."""

    def __init__(self, rngs, cell, pair):
        self.rnn = nnx.RNN(cell(2, 7, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(7, 3, rngs=rngs)
        self.pair = pair

    def __call__(self, x):
        zero = jnp.zeros((x.shape[0], 7), x.dtype)
        x = self.rnn(x, initial_carry=(zero, zero) if self.pair else zero)
        return self.out(x[:, -1])


# one set of hidden units for every cell: all gates and the state move together


@case("nnx/rnn", [(7, 1)])
def rnn(key):
    return make(lambda r: Recurrent(r, nnx.SimpleCell, False), key, normal(key, 4, 5, 2))


@case("nnx/gru", [(7, 1)])  # kernels are packed h+h+h
def gru(key):
    return make(lambda r: Recurrent(r, nnx.GRUCell, False), key, normal(key, 4, 5, 2))


@case("nnx/lstm", [(7, 1)])
def lstm(key):
    return make(lambda r: Recurrent(r, nnx.LSTMCell, True), key, normal(key, 4, 5, 2))


@case("nnx/lstm_optimized", [(7, 1)])  # kernels are packed h+h+h+h
def lstm_optimized(key):
    return make(lambda r: Recurrent(r, nnx.OptimizedLSTMCell, True), key, normal(key, 4, 5, 2))


class Bidirectional(nnx.Module):
    def __init__(self, rngs):
        self.both = nnx.Bidirectional(
            nnx.RNN(nnx.GRUCell(2, 5, rngs=rngs), rngs=rngs),
            nnx.RNN(nnx.GRUCell(2, 6, rngs=rngs), rngs=rngs),
            rngs=rngs,
        )
        self.top = nnx.RNN(nnx.SimpleCell(11, 8, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        start = [jnp.zeros((x.shape[0], n), x.dtype) for n in (5, 6, 8)]
        x = self.both(x, initial_carry=(start[0], start[1]))
        return self.out(self.top(x, initial_carry=start[2]))


# two directions concatenated a+b, then a second layer
@case("nnx/rnn_bidirectional_stacked", [(5, 1), (6, 1), (8, 1)])
def bidirectional(key):
    return make(Bidirectional, key, normal(key, 4, 5, 2))
