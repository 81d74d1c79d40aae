"""Recurrent networks in equinox: cells under ``lax.scan``."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.random import split

from .equinox_common import make
from .linen_common import normal
from .registry import case


def run(cell, xs, reverse=False):
    """States of a cell over time; an LSTM's carry is a pair whose first is its output."""
    zero = jnp.zeros(cell.hidden_size, jnp.result_type(cell.weight_ih, xs))
    pair = isinstance(cell, eqx.nn.LSTMCell)

    def step(carry, x):
        carry = cell(x, carry)
        return carry, carry[0] if pair else carry

    return jax.lax.scan(step, (zero, zero) if pair else zero, xs, reverse=reverse)[1]


class Recurrent(eqx.Module):
    cell: eqx.Module
    out: eqx.nn.Linear

    def __init__(self, cell, key):
        k1, k2 = split(key)
        self.cell = cell(2, 7, key=k1)
        self.out = eqx.nn.Linear(7, 3, key=k2)

    def __call__(self, xs):
        return self.out(run(self.cell, xs)[-1])


@case("equinox/lstm", [(7, 1)])  # rows of the packed weights are h+h+h+h; gates and state together
def lstm(key):
    return make(lambda k: Recurrent(eqx.nn.LSTMCell, k), key, normal(key, 4, 5, 2))


@case("equinox/gru", [(7, 1)])  # h+h+h, and a second bias for the candidate
def gru(key):
    return make(lambda k: Recurrent(eqx.nn.GRUCell, k), key, normal(key, 4, 5, 2))


class Bidirectional(eqx.Module):
    forward: eqx.nn.LSTMCell
    backward: eqx.nn.GRUCell
    top: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4 = split(key, 4)
        self.forward = eqx.nn.LSTMCell(2, 5, key=k1)
        self.backward = eqx.nn.GRUCell(2, 6, use_bias=False, key=k2)
        self.top = eqx.nn.GRUCell(11, 8, key=k3)
        self.out = eqx.nn.Linear(8, 3, key=k4)

    def __call__(self, xs):
        both = run(self.forward, xs), run(self.backward, xs, reverse=True)
        return jax.vmap(self.out)(run(self.top, jnp.concatenate(both, axis=-1)))


# two directions concatenated a+b, then a second layer
@case("equinox/rnn_bidirectional_stacked", [(5, 1), (6, 1), (8, 1)])
def bidirectional(key):
    return make(Bidirectional, key, normal(key, 4, 5, 2))


class Layers(eqx.Module):
    """Cells of one size stacked as one module, scanned over layers, each scanning over time."""

    inside: eqx.nn.Linear
    cells: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3 = split(key, 3)
        self.inside = eqx.nn.Linear(2, 6, key=k1)
        self.cells = eqx.filter_vmap(lambda k: eqx.nn.GRUCell(6, 6, key=k))(split(k2, 3))
        self.out = eqx.nn.Linear(6, 2, key=k3)

    def __call__(self, xs):
        params, static = eqx.partition(self.cells, eqx.is_array)

        def layer(xs, params):
            return xs + run(eqx.combine(params, static), xs), None

        xs, _ = jax.lax.scan(layer, jax.vmap(self.inside)(xs), params)
        return jax.vmap(self.out)(xs)


# the states are added to the stream, so that they permute with it, in every layer alike
@case("equinox/rnn_scanned_residual", [(6, 1)])
def layers(key):
    return make(Layers, key, normal(key, 3, 5, 2))
