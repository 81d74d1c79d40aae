"""Working in chunks: same results, one compilation, padding that never leaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import train, zoo
from wsljax.zoo import Population, chunk_size, map_chunks, pad_models


@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 99, None])
@pytest.mark.parametrize("sharded", [False, True])
def test_any_chunk_gives_the_same(chunk, sharded, key):
    models = {"a": jax.random.normal(key, (10, 3)), "b": np.arange(10)}
    traces = []

    def fn(models, scale):
        traces.append(models["b"].shape)
        return {"sum": scale * models["a"].sum(axis=1) + models["b"], "row": models["a"]}

    mesh = train.make_mesh() if sharded else None
    found = map_chunks(fn, models, 2.0, chunk=chunk, mesh=mesh)
    np.testing.assert_allclose(found["sum"], 2 * models["a"].sum(axis=1) + models["b"])
    np.testing.assert_array_equal(found["row"], models["a"])
    assert len(traces) == 1
    assert not sharded or traces[0][0] % 4 == 0


def test_evaluation_is_one_network_at_a_time(key):
    params = {"w": jax.random.normal(key, (7, 4)), "act": jnp.tanh}
    population = Population(params, {"shift": jnp.arange(7.0)})

    def metrics(params, row, x):
        output = params["act"](params["w"] @ x) + row["shift"]
        return {"output": output, "double": 2 * output}

    x = jnp.linspace(0.0, 1.0, 4)
    found = zoo.evaluate(population, metrics, x, chunk=3, mesh=train.make_mesh())
    expected = [jnp.tanh(params["w"][i] @ x) + i for i in range(7)]
    np.testing.assert_allclose(found.columns["output"], expected, rtol=1e-12)
    np.testing.assert_allclose(found.columns["double"], 2 * np.array(expected), rtol=1e-12)
    np.testing.assert_array_equal(found.columns["shift"], population.columns["shift"])


def test_sizes_follow_memory_and_devices():
    mesh = train.make_mesh()
    assert chunk_size(1000, 50, memory=10_000) == 10
    assert chunk_size(1000, 7, memory=10_000) == 7
    assert chunk_size(10**9, 50, memory=1000) == 1
    assert chunk_size(1000, 50, memory=10_000, mesh=mesh) == 40
    assert chunk_size(1000, 50, memory=10**9, mesh=mesh) == 52


def test_padding_repeats_the_first():
    padded = pad_models({"a": jnp.arange(3), "act": jnp.tanh}, 5)
    assert padded["a"].tolist() == [0, 1, 2, 0, 0] and padded["act"] is jnp.tanh


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="`chunk` is 0"):
        map_chunks(lambda x: x, jnp.ones((2, 2)), chunk=0)
    with pytest.raises(ValueError, match="no model"):
        map_chunks(lambda x: x, jnp.ones((0, 2)))
    with pytest.raises(ValueError, match=r"\(2, 2\), \(3,\)"):
        map_chunks(lambda x: x, (jnp.ones((2, 2)), jnp.ones(3)))
