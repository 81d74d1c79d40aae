"""A population trained together is the networks trained one by one, however it is cut up."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import train, zoo
from wsljax.zoo.training.train import total_work

NAMES = ["sgd", "momentum", "adam", "adamw", "rmsprop", "adam", "sgd"]
HYPER = {
    "seed": [3, 1, 4, 1, 5, 9, 2],
    "optimiser": NAMES,
    "learning_rate": [0.1, 0.03, 0.01, 0.02, 0.003, 0.05, 0.2],
    "weight_decay": [0.0, 0.01, 0.1, 0.2, 0.0, 0.0, 0.03],
    "init_scale": [1.0, 0.3, 2.0, 1.0, 0.5, 1.0, 1.5],
    "activation": [0, 1, 0, 1, 0, 1, 0],
    "steps": [30, 7, 0, 30, 12, 30, 21],
}


def init(row, *, key):
    keys = jax.random.split(key)
    return {
        "w": row["init_scale"] * jax.random.normal(keys[0], (3, 5)),
        "b": jnp.zeros(5),
        "v": jax.random.normal(keys[1], (5,)),
    }


def loss(params, row, batch, *, key):
    x, y = batch
    hidden = x @ params["w"] + jnp.broadcast_to(params["b"], (len(x), 5))
    hidden = zoo.activate(row["activation"], hidden, ("tanh", "relu"))
    noise = 0.01 * jax.random.normal(key, y.shape)
    return jnp.mean((hidden @ params["v"] + noise - y) ** 2)


@pytest.fixture(scope="module")
def data():
    x = jax.random.normal(jax.random.key(0), (40, 3))
    return x, jnp.sin(x.sum(axis=1))


@pytest.fixture(scope="module")
def whole(data):
    """The population in one chunk, which most tests compare with."""
    return run(data)


@pytest.fixture(scope="module")
def chunked(data):
    """The population in two chunks, of four and three networks."""
    return run(data, chunk=4)


def run(data, **options):
    settings = dict(key=jax.random.key(7), batch_size=8, every=10)
    return zoo.train(init, loss, data, HYPER, **{**settings, **options})


def assert_same(a, b, rtol=0.0):
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params)):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)
    for name, column in a.columns.items():
        np.testing.assert_allclose(column, b.columns[name], rtol=rtol, err_msg=name)


def optax_rule(index):
    rate, decay = HYPER["learning_rate"][index], HYPER["weight_decay"][index]
    l2 = optax.add_decayed_weights(decay)
    return {
        "sgd": lambda: optax.chain(l2, optax.sgd(rate)),
        "momentum": lambda: optax.chain(l2, optax.sgd(rate, momentum=0.9)),
        "adam": lambda: optax.chain(l2, optax.adam(rate)),
        "adamw": lambda: optax.adamw(rate, weight_decay=decay),
        "rmsprop": lambda: optax.chain(l2, optax.rmsprop(rate, 0.9, 1e-8, eps_in_sqrt=False)),
    }[HYPER["optimiser"][index]]()


def test_it_is_training_one_by_one_with_optax(data, whole):
    """Seeds, batches, masks and optimisers, re-derived with a plain loop for each network."""
    for index in range(7):
        row = {n: jnp.asarray(c[index]) for n, c in HYPER.items() if n != "optimiser"}
        key = jax.random.fold_in(jax.random.key(7), HYPER["seed"][index])
        params = init(row, key=jax.random.fold_in(key, 0))
        optimiser = optax_rule(index)
        state = optimiser.init(params)

        @jax.jit
        def step(params, state, number, key=key, row=row, optimiser=optimiser):
            batch_key, loss_key = jax.random.split(
                jax.random.fold_in(jax.random.fold_in(key, 1), number)
            )
            drawn = jax.random.randint(batch_key, (8,), 0, 40)
            batch = jax.tree.map(lambda leaf: leaf[drawn], data)
            value, grads = jax.value_and_grad(loss)(params, row, batch, key=loss_key)
            updates, state = optimiser.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        value = jnp.nan
        for number in range(HYPER["steps"][index]):
            params, state, value = step(params, state, number)
        for name in params:  # hyperparameters are float32 in a population
            np.testing.assert_allclose(whole[index][name], params[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole.columns["loss"][index], value, rtol=1e-4)


def test_chunked_is_unchunked(data, whole, chunked):
    assert_same(chunked, whole, rtol=1e-9)
    assert_same(run(data, chunk=1), whole, rtol=1e-9)


@pytest.mark.parametrize("chunk", [None, 4])
def test_sharded_is_unsharded(data, whole, chunk):
    assert jax.device_count() == 4
    assert_same(run(data, mesh=train.make_mesh(), chunk=chunk), whole, rtol=1e-9)


def test_masks_stop_training(data, whole):
    population = whole
    np.testing.assert_array_equal(population.columns["steps_taken"], HYPER["steps"])
    longer = {**HYPER, "steps": [60] * 7}
    stopped = zoo.train(
        *(init, loss, data, {**longer, "steps": HYPER["steps"]}),
        key=jax.random.key(7),
        batch_size=8,
        every=60,
    )
    assert_same(population, stopped)  # 30 masked steps more change no bit
    untrained = init(
        {"init_scale": jnp.asarray(2.0)},
        key=jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 4), 0),
    )
    for name in untrained:
        np.testing.assert_array_equal(population[2][name], untrained[name])
    assert np.isnan(population.columns["loss"][2])


def test_divergence_ends_training_at_the_last_finite_weights(data):
    hyper = {"seed": [0, 1], "init_scale": [1.0, 1.0], "activation": [1, 1], "steps": [200, 200]}
    hyper |= {"optimiser": ["sgd", "sgd"], "learning_rate": [1e3, 1e-2]}
    population = zoo.train(
        *(init, loss, data, hyper), key=jax.random.key(0), batch_size=8, every=50
    )
    assert population.columns["diverged"].tolist() == [True, False]
    assert population.columns["steps_taken"][0] < 200
    assert population.columns["steps_taken"][1] == 200
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(population.params))


class Killed(Exception):
    pass


@pytest.mark.parametrize("kill_at", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_resuming_gives_identical_results(data, chunked, tmp_path, kill_at):
    calls = []

    def killer(done, metrics):
        calls.append(done)
        if len(calls) == kill_at:
            raise Killed

    options = dict(chunk=4, folder=tmp_path / "zoo", save_every=0.0)
    with pytest.raises(Killed):
        run(data, **options, log=killer)
    steps = []
    resumed = run(data, **options, log=lambda done, metrics: steps.append(done))
    assert_same(resumed, chunked)
    assert steps[-1] == total_work(HYPER, chunk=4)
    assert_same(run(data, **options), chunked)  # all done: only read back


def test_a_folder_of_another_run_is_refused(data, tmp_path):
    run(data, folder=tmp_path)
    other = {**HYPER, "learning_rate": np.array(HYPER["learning_rate"]) * 2}
    with pytest.raises(ValueError, match=r"another run \(hyper column learning_rate"):
        zoo.train(*(init, loss, data, other), key=jax.random.key(7), batch_size=8, folder=tmp_path)
    with pytest.raises(ValueError, match=r"batch_size, key: not the same"):
        run(data, folder=tmp_path, batch_size=4, key=jax.random.key(8))
    assert json.loads((tmp_path / "zoo.json").read_text())["models"] == 7


def test_progress_is_reported(data):
    rows = []
    run(data, chunk=4, log=lambda done, metrics: rows.append((done, dict(metrics))))
    done = [step for step, _ in rows]
    assert done == sorted(done) and done[-1] == total_work(HYPER, chunk=4)
    assert all(np.isfinite(metrics["loss"]) for _, metrics in rows)
    assert {metrics["chunk"] for _, metrics in rows} == {"1/2", "2/2"}


def test_modules_with_functions_inside_train(data):
    """Any pytree: an Equinox module, whose activation is a leaf that is not an array."""

    def init(row, *, key):
        return eqx.nn.MLP(3, "scalar", 4, depth=1, key=key)

    def loss(model, row, batch, *, key):
        x, y = batch
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    hyper = {"learning_rate": [0.01, 0.02, 0.03]}
    population = zoo.train(init, loss, data, hyper, steps=40, key=jax.random.key(0))
    assert len(population) == 3
    x, y = data
    start = init(None, key=jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0))
    after = float(loss(population[0], None, data, key=None))
    assert after < 0.7 * float(loss(start, None, data, key=None))
    assert np.isclose(population.columns["loss"][0], after, rtol=0.2)


def test_whole_data_and_columns_of_any_shape(data):
    """No batches; each network fits a target of its own, as INRs do."""
    targets = jnp.linspace(0.0, 1.0, 12).reshape(3, 4)

    def loss(params, row, batch, *, key):
        return jnp.sum((params - row["target"]) ** 2)

    population = zoo.train(
        lambda row, *, key: jnp.zeros(4),
        loss,
        (),
        {"target": targets, "optimiser": ["sgd"] * 3, "learning_rate": [0.2] * 3},
        steps=60,
        key=jax.random.key(0),
    )
    np.testing.assert_allclose(population.params, targets, atol=1e-6)


def test_chunks_follow_the_memory(data):
    """A small memory gives small chunks, a large one a single chunk."""
    for memory, chunks in ((1, "7/7"), (2**31, "1/1")):
        rows = []
        run(data, memory=memory, log=lambda d, m, rows=rows: rows.append(m["chunk"]))
        assert rows[-1] == chunks


def test_batches_that_do_not_exist_are_errors(data):
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        run(data, batch_size=0)
    with pytest.raises(ValueError, match="one leading sample axis"):
        run((data[0], data[1][:-1]))
