"""nnx modules into (fn, params) and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.interop.common import error, judge, normal
from wsljax import interop


class Net(nnx.Module):
    """A list of layers, BatchNorm, dropout, and a matrix that is used twice."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.middle = nnx.List([nnx.Linear(4, 4, rngs=rngs)])
        self.again = self.middle[0]
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = self.drop(jnp.tanh(self.norm(self.first(x))))
        for layer in self.middle:
            x = jnp.tanh(layer(x))
        return self.last(jnp.tanh(self.again(x)))

    def scaled(self, x, by):
        return by * self(x)


X = normal(6, 3)


def build():
    module = Net(nnx.Rngs(0))
    module.norm.mean[...] = 0.3 * normal(4)
    module.norm.var[...] = 0.5 + normal(4, seed=2) ** 2
    module.norm.scale[...] = normal(4, seed=3)
    return module


def test_group_parity_and_round_trip():
    module = build()
    module.eval()
    before = jax.tree.map(
        np.asarray, nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    )
    fn, params = interop.from_nnx(module)
    assert set(params["norm"]) == {"bias", "mean", "scale", "var"} and type(params) is dict
    assert len(jax.tree.leaves(params)) == 10  # the shared matrix once
    assert error(fn(params, X), module(X)) < 1e-6
    # the matrix maps the four to themselves, twice: one joint permutation
    spec = judge(fn, params, X, group=((4, 1),))
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    other = interop.to_nnx(moved, module)
    other.eval()
    assert other.again is other.middle[0]
    assert error(other(X), module(X)) < 1e-5
    after = nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))  # untouched


def test_training_mode_is_a_function_and_changes_nothing():
    module = build()
    module.train()
    fn, params = interop.from_nnx(module)
    first = fn(params, X)
    assert np.array_equal(first, fn(params, X))
    assert np.array_equal(params["norm"]["mean"], module.norm.mean[...])
    assert error(first, module(X)) < 1e-6  # the first draw of the module's own stream
    assert error(first, module(X)) > 1e-3  # the module goes on, fn does not


def test_methods_and_arguments():
    module = build()
    module.eval()
    fn, params = interop.from_nnx(module, method="scaled", by=2.0)
    assert error(fn(params, X), 2 * module(X)) < 1e-6


def test_params_that_do_not_fit():
    module = build()
    fn, params = interop.from_nnx(module)
    with pytest.raises(ValueError, match="params lack the array 'first/"):
        fn({k: v for k, v in params.items() if k != "first"}, X)
    with pytest.raises(ValueError, match="params have 'more'"):
        interop.to_nnx({**params, "more": 1.0}, module)
    with pytest.raises(ValueError, match=r"'first/bias' has shape \(1,\), not \(4,\)"):
        interop.to_nnx(
            {**params, "first": {"kernel": params["first"]["kernel"], "bias": jnp.ones(1)}}, module
        )
    with pytest.raises(TypeError, match="`module` is dict, not a flax.nnx.Module"):
        interop.from_nnx(params)
