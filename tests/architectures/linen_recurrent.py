"""Recurrent networks in linen."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from .linen_common import make, normal, tokens
from .registry import case


class Recurrent(nn.Module):
    """One cell scanned over time by ``nn.RNN``, read out at the last step."""

    cell: type[nn.RNNCellBase]
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(self.cell(7, param_dtype=self.param_dtype))(x)
        return nn.Dense(3)(x[:, -1])


# one set of hidden units for every cell below: all gates and the state move together


@case("linen/rnn", [(7, 1)])
def rnn(key):
    return make(Recurrent(nn.SimpleCell), key, normal(key, 4, 5, 2))


@case("linen/gru", [(7, 1)])
def gru(key):
    return make(Recurrent(nn.GRUCell), key, normal(key, 4, 5, 2))


@case("linen/mgu", [(7, 1)])
def mgu(key):
    return make(Recurrent(nn.MGUCell), key, normal(key, 4, 5, 2))


@case("linen/lstm", [(7, 1)])
def lstm(key):
    return make(Recurrent(nn.LSTMCell), key, normal(key, 4, 5, 2))


@case("linen/lstm_optimized", [(7, 1)])  # kernels are packed h+h+h+h inside the cell
def lstm_optimized(key):
    return make(Recurrent(nn.OptimizedLSTMCell), key, normal(key, 4, 5, 2))


class Stacked(nn.Module):
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.OptimizedLSTMCell(6, param_dtype=self.param_dtype))(x)
        x = nn.RNN(nn.GRUCell(8, param_dtype=self.param_dtype))(x)
        return nn.Dense(3)(x.mean(1))


@case("linen/rnn_stacked", [(6, 1), (8, 1)])  # one set for each layer of cells
def stacked(key):
    return make(Stacked(), key, normal(key, 4, 5, 2))


class Bidirectional(nn.Module):
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, lengths=None):
        forward = nn.RNN(nn.OptimizedLSTMCell(5, param_dtype=self.param_dtype))
        backward = nn.RNN(nn.GRUCell(6, param_dtype=self.param_dtype))
        x = nn.Bidirectional(forward, backward)(x, seq_lengths=lengths)
        return nn.Dense(3)(nn.tanh(nn.Dense(8)(x)))


@case("linen/rnn_bidirectional", [(5, 1), (6, 1), (8, 1)])  # two directions, concatenated: a+b
def bidirectional(key):
    return make(Bidirectional(), key, normal(key, 4, 5, 2))


@case("linen/rnn_lengths", [(5, 1), (6, 1), (8, 1)])  # reversing by length moves time only
def lengths(key):
    return make(Bidirectional(), key, normal(key, 4, 5, 2), jnp.array([5, 3, 4, 2]))


class Seq2Seq(nn.Module):
    """The encoder hands its carry to a decoder of the same size."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, source, target):
        embed = nn.Embed(7, 4, param_dtype=self.param_dtype)
        encoder = nn.RNN(nn.OptimizedLSTMCell(6, param_dtype=self.param_dtype), return_carry=True)
        carry, _ = encoder(embed(source))
        decoder = nn.RNN(nn.OptimizedLSTMCell(6, param_dtype=self.param_dtype))
        return nn.Dense(7)(decoder(embed(target), initial_carry=carry))


@case("linen/seq2seq", [(4, 1), (6, 1)])  # shared embedding; both cells share the carried state
def seq2seq(key):
    return make(Seq2Seq(), key, tokens(key, 3, 5, 7), tokens(key, 3, 4, 7))


class ConvLSTM(nn.Module):
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.ConvLSTMCell(5, (2, 2), param_dtype=self.param_dtype))(x)
        return nn.Dense(2)(x[:, -1].mean((1, 2)))


@case("linen/conv_lstm", [(5, 1)])  # channels of the state; the two convolutions are packed h+h+h+h
def conv_lstm(key):
    return make(ConvLSTM(), key, normal(key, 3, 3, 4, 4, 2))


class LearnedStart(nn.Module):
    """The first carry is a parameter, and the cell is unrolled by hand."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        cell = nn.GRUCell(6, param_dtype=self.param_dtype)
        start = self.param("start", nn.initializers.normal(1.0), (6,))
        carry = jnp.broadcast_to(start, (x.shape[0], 6))
        for step in range(x.shape[1]):
            carry, _ = cell(carry, x[:, step])
        return nn.Dense(2)(carry)


@case("linen/gru_unrolled", [(6, 1)])  # the learned start has the axis of the state
def unrolled(key):
    return make(LearnedStart(), key, normal(key, 4, 3, 2))
