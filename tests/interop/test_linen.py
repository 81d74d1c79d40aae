"""linen modules into (fn, params) and back."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from tests.interop.common import error, judge, normal
from wsljax import interop


class Net(nn.Module):
    """Convolution, BatchNorm, dropout, dense: all that a call can want to update or draw."""

    hidden: int = 5

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x)))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(2)(jnp.tanh(nn.Dense(self.hidden)(x)))

    def first(self, x):
        return x[:, 0]


X = normal(3, 5, 5, 2)
GROUP = ((4, 1), (5, 1))


@pytest.fixture(scope="module")
def variables():
    start = jax.jit(lambda key: Net().init(key, X, train=False))(jax.random.key(0))
    return jax.tree.map(lambda a: a + 0.3 * normal(*a.shape).astype(a.dtype) ** 2, start)


def test_group_parity_and_round_trip(variables):
    fn, params = interop.from_linen(Net(), variables, train=False)
    assert set(params) == {"params", "batch_stats"} and type(params["params"]) is dict
    assert error(fn(params, X), Net().apply(variables, X, train=False)) < 1e-6
    spec = judge(fn, params, X, group=GROUP)
    assert spec.axes["batch_stats/BatchNorm_0/mean"] == spec.axes["params/Conv_0/bias"]
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    back = interop.to_linen(moved, variables)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    assert error(Net().apply(back, X, train=False), fn(params, X)) < 1e-5
    assert error(jax.jit(fn)(params, X), fn(params, X)) < 1e-5


def test_training_mode_asks_for_what_it_needs(variables):
    fn, params = interop.from_linen(Net(), variables, rngs={"dropout": jax.random.key(0)})
    with pytest.raises(ValueError, match=r"updates variables.*mutable=\['batch_stats'\]"):
        fn(params, X)
    fn, params = interop.from_linen(Net(), variables, mutable=["batch_stats"])
    with pytest.raises(ValueError, match="draws random numbers.*train=False.*rngs="):
        fn(params, X)
    rngs = {"dropout": jax.random.key(0)}
    fn, params = interop.from_linen(Net(), variables, mutable=["batch_stats"], rngs=rngs)
    want, _ = Net().apply(variables, X, mutable=["batch_stats"], rngs=rngs)
    assert error(fn(params, X), want) < 1e-6
    assert np.array_equal(fn(params, X), fn(params, X))  # a function, though it draws


def test_initialising_methods_bare_params_and_frozen():
    fn, params = interop.from_linen(Net(), None, X, key=jax.random.key(0), train=False)
    assert fn(params, X).shape == (3, 2)
    with pytest.raises(ValueError, match="needs variables, or a key and example inputs"):
        interop.from_linen(Net())
    fn, _ = interop.from_linen(Net(), params, method="first")
    assert fn(params, X).shape == (3, 5, 2)
    dense = nn.Dense(3).init(jax.random.key(0), X)["params"]
    fn, params = interop.from_linen(nn.Dense(3), freeze(dense))
    assert set(params) == {"params"}
    assert error(fn(params, X), nn.Dense(3).apply({"params": dense}, X)) < 1e-6
    back = interop.to_linen(params, freeze(dense))
    assert jax.tree.structure(back) == jax.tree.structure(freeze(dense))


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", lambda: jnp.asarray(3))
        init = nn.with_partitioning(nn.initializers.ones, ("in", "out"))
        return nn.Dense(4, kernel_init=init)(x) + count.value


def test_counters_stay_and_boxes_come_back():
    x = normal(2, 3)
    variables = Counting().init(jax.random.key(0), x)
    fn, params = interop.from_linen(Counting(), variables)
    assert set(params) == {"params"} and isinstance(
        params["params"]["Dense_0"]["kernel"], jax.Array
    )
    assert error(fn(params, x), Counting().apply(variables, x)) < 1e-6
    back = interop.to_linen(jax.tree.map(lambda a: 2 * a, params), variables)
    kernel = back["params"]["Dense_0"]["kernel"]
    assert isinstance(kernel, nn.Partitioned) and kernel.names == ("in", "out")
    assert kernel.value[0, 0] == 2 and back["counts"]["calls"] == 3


def test_params_that_do_not_fit(variables):
    fn, params = interop.from_linen(Net(), variables, train=False)
    with pytest.raises(ValueError, match="params lack the array 'batch_stats/BatchNorm_0/mean'"):
        fn({"params": params["params"]}, X)
    with pytest.raises(ValueError, match="params have 'more', which is not in the network"):
        interop.to_linen({**params, "more": {}}, variables)
    other = jax.tree.map(lambda a: a[:1], params)
    with pytest.raises(ValueError, match=r"has shape \(1,\), not \(4,\)"):
        interop.to_linen(other, variables)
    with pytest.raises(TypeError, match="`module` is type, not a flax.linen.Module"):
        interop.from_linen(Net, variables)
