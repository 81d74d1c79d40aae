"""Equinox modules into (fn, params) and back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.common import error, judge, normal
from wsljax import interop


class Net(eqx.Module):
    """A dict and a list of layers, an activation, a static field, an integer array and a bare function."""

    layers: dict
    more: list
    offset: jax.Array
    activation: object
    width: int = eqx.field(static=True)

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.layers = {"in": eqx.nn.Linear(3, 5, key=a), "out": eqx.nn.Linear(4, 2, key=b)}
        self.more = [eqx.nn.Linear(5, 4, key=c), jnp.tanh]
        self.offset = jnp.arange(2)
        self.activation = jax.nn.relu
        self.width = 5

    def __call__(self, x):
        x = self.activation(self.layers["in"](x))
        for f in self.more:
            x = f(x)
        return self.layers["out"](x) + self.offset

    def doubled(self, x, by=2):
        return by * self(x)


def test_group_parity_and_round_trip():
    module, x = Net(jax.random.key(0)), normal(6, 3)
    fn, params = interop.from_equinox(module)
    assert set(params) == {"layers", "more"} and set(params["more"]) == {"0"}
    batched = jax.vmap(fn, in_axes=(None, 0))
    assert error(batched(params, x), jax.vmap(module)(x)) < 1e-6
    spec = judge(batched, params, x, group=((5, 1), (4, 1)))
    assert spec.axes["more/0/weight"] and "offset" not in spec.axes
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    back = interop.to_equinox(moved, module)
    assert jax.tree.structure(back) == jax.tree.structure(module) and back.width == 5
    assert error(jax.vmap(back)(x), jax.vmap(module)(x)) < 1e-5
    assert eqx.tree_equal(interop.to_equinox(params, module), module)
    fn, params = interop.from_equinox(module, method="doubled", by=3)
    assert error(fn(params, x[0]), 3 * module(x[0])) < 1e-6


class Stateful(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(2, 4, 3, key=a)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="ema")
        self.drop = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(4, 2, key=b)

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.conv(x), state)
        return self.head(self.drop(jax.nn.relu(x).mean((1, 2)), key=key)), state


def stateful():
    model, state = eqx.nn.make_with_state(Stateful)(jax.random.key(0))
    model = eqx.nn.inference_mode(model)
    leaves, structure = jax.tree.flatten(state)
    # what is stored is made positive and uneven; flags and counters stay
    leaves = [0.5 + normal(*a.shape) ** 2 if eqx.is_inexact_array(a) else a for a in leaves]
    return model, jax.tree.unflatten(structure, [jnp.asarray(a) for a in leaves])


def fresh(state):
    """A state is spent by a call."""
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(state))


def test_state_moves_with_the_weights():
    module, state = stateful()
    x = normal(3, 2, 5, 5).astype(module.conv.weight.dtype)
    fn, params = interop.from_equinox(module, state)
    assert set(params) == {"module", "state"}

    def run(module, state):
        return jax.vmap(lambda x: module(x, fresh(state))[0])(x)

    batched = jax.vmap(fn, in_axes=(None, 0))
    want = run(module, state)
    assert error(batched(params, x), want) < 1e-6
    spec = judge(batched, params, x, group=((4, 1),))
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    before, after = (jax.tree.leaves(p["state"]) for p in (params, moved))
    assert any(not np.array_equal(a, b) for a, b in zip(before, after))
    other, other_state = interop.to_equinox(moved, module, state)
    assert error(run(other, other_state), want) < 1e-5
    assert isinstance(other_state, eqx.nn.State)


def test_what_does_not_fit():
    module = Net(jax.random.key(0))
    fn, params = interop.from_equinox(module)
    x = normal(3)
    with pytest.raises(ValueError, match="params lack the array 'layers/in/weight'"):
        fn({**params, "layers": {}}, x)
    with pytest.raises(ValueError, match="params have 'wrong', which is not in the network"):
        interop.to_equinox({**params, "wrong": jnp.ones(1)}, module)
    with pytest.raises(ValueError, match=r"'more/0/bias' has shape \(1,\), not \(4,\)"):
        broken = {"weight": params["more"]["0"]["weight"], "bias": jnp.ones(1)}
        interop.to_equinox({**params, "more": {"0": broken}}, module)
    with pytest.raises(TypeError, match="has no method 'trained'"):
        interop.from_equinox(module, method="trained")
    with pytest.raises(ValueError, match="no floating-point arrays"):
        interop.from_equinox(eqx.nn.Lambda(jnp.tanh))
