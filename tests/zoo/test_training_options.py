"""Snapshots, early stop, schedules, shares of the data, noisy labels, data of one's own, lanes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import train, zoo
from wsljax.zoo.training.networks import subset_order
from wsljax.zoo.training.supervised import noisy_labels
from wsljax.zoo.training.trainer import CACHE, fitting_lanes

MLP = zoo.Function("mlp", {"widths": (3, 5, 2), "activation": ("relu", "tanh")})
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def data():
    x = jax.random.normal(jax.random.key(0), (40, 3))
    return x, (x.sum(1) > 0).astype(jnp.int32)


def run(data, hyper, **options):
    settings = {"key": KEY, "batch_size": 8, "every": 10, "steps": 25}
    hyper = {"learning_rate": [0.05, 0.02, 0.1], "activation": ["relu", "tanh", "tanh"]} | hyper
    return zoo.train(MLP, "cross_entropy", data, hyper, **{**settings, **options})


def assert_same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def reference(data, row, steps, *, rate=None, clip=None, order=None):
    """One network trained for itself with optax's Adam; `rate(step)` is a factor."""
    row = {name: jnp.asarray(value) for name, value in row.items()}
    return _reference(*data, row, jnp.int32(steps), order, rate, clip)


@partial(jax.jit, static_argnums=(5, 6))
def _reference(x, y, row, steps, order, rate, clip):
    key = jax.random.fold_in(KEY, row["seed"])
    params = MLP.init(row, key=jax.random.fold_in(key, 0))
    schedule = lambda n: row["learning_rate"] * (rate(n) if rate else 1.0)  # noqa: E731
    optimiser = optax.chain(
        *([optax.clip_by_global_norm(clip)] if clip else []), optax.adam(schedule)
    )

    def step(number, carry):
        params, state = carry
        batch_key, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), number))
        drawn = jax.random.randint(batch_key, (8,), 0, len(x) if order is None else len(order))
        drawn = drawn if order is None else order[drawn]
        loss = lambda p: zoo.METRICS["cross_entropy"](MLP.apply(p, x[drawn], row), y[drawn])  # noqa: E731
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0]


def test_words_become_codes_of_the_function(data):
    population = run(data, {})
    assert population.label("activation") == ["relu", "tanh", "tanh"]
    assert population.function == MLP and dict(population.roles)["loss"] == "metric"
    assert population.columns["run"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="'activation' has 'gelu'; known are relu, tanh"):
        run(data, {"activation": ["gelu"] * 3})


def test_snapshots_are_the_networks_at_those_steps(data):
    lengths = {"steps": [25, 7, 12]}
    population = run(data, lengths, snapshots=(0, 7, 12, 20))
    assert population.columns["run"].tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert population.columns["step"].tolist() == [0, 7, 12, 20, 25, 0, 7, 0, 7, 12]
    assert population.columns["parent"].tolist() == [-1, 0, 1, 2, 3, -1, 5, -1, 7, 8]
    for place in range(len(population)):
        who, steps = (int(population.columns[name][place]) for name in ("run", "step"))
        row = {"seed": who, "learning_rate": [0.05, 0.02, 0.1][who], "activation": int(who > 0)}
        assert_same(population[place], reference(data, row, steps), rtol=2e-4, atol=2e-5)
    whole = run(data, lengths)
    ends = np.flatnonzero(np.diff(np.append(population.columns["run"], 99)))
    assert_same(population.take(ends).params, whole.params)


@pytest.mark.parametrize("kill_at", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_snapshots_survive_a_kill(data, tmp_path, kill_at):
    calls = []

    def killer(done, metrics):
        calls.append(done)
        if len(calls) == kill_at:
            raise KeyboardInterrupt

    options = {"snapshots": (0, 5, 15), "chunk": 2}
    with pytest.raises(KeyboardInterrupt):
        run(data, {}, **options, folder=tmp_path, save_every=0.0, log=killer)
    resumed = run(data, {}, **options, folder=tmp_path, save_every=0.0)
    whole = run(data, {}, **options)
    assert_same(resumed.params, whole.params)
    assert_same(resumed.columns, whole.columns)


def test_a_schedule_and_a_warm_up_scale_the_rate(data):
    hyper = {"schedule": ["cosine", "linear", "constant"], "warmup": [5, 0, 10]}
    population = run(data, hyper)

    def cosine(n):
        grown = jnp.minimum(1, (n + 1) / 5)
        return grown * (1 + jnp.cos(jnp.pi * jnp.maximum(n - 5, 0) / 20)) / 2

    factors = (cosine, lambda n: 1 - n / 25, lambda n: jnp.minimum(1, (n + 1) / 10))
    for who, rate in enumerate(factors):
        row = {"seed": who, "learning_rate": [0.05, 0.02, 0.1][who], "activation": int(who > 0)}
        assert_same(population[who], reference(data, row, 25, rate=rate), rtol=2e-4, atol=2e-5)


def test_gradients_are_clipped(data):
    population = run(data, {"clip_norm": [0.1, 1e9, 1e9]})
    row = {"seed": 0, "learning_rate": 0.05, "activation": 0}
    assert_same(population[0], reference(data, row, 25, clip=0.1), rtol=5e-4, atol=5e-5)
    assert_same(population.take([1, 2]).params, run(data, {}).take([1, 2]).params, atol=1e-6)


def test_a_network_sees_its_share_of_the_data(data):
    population = run(data, {"data_fraction": [0.2, 1.0, 0.5]})
    row = {"seed": jnp.int32(0), "learning_rate": 0.05, "activation": 0}
    order = subset_order(row, KEY, 40)[:8]
    assert len(set(order.tolist())) == 8
    assert_same(population[0], reference(data, row, 25, order=order), rtol=2e-4, atol=2e-5)
    with pytest.raises(ValueError, match="needs a `batch_size`"):
        run(data, {"data_fraction": [0.2, 1.0, 0.5]}, batch_size=None)


def test_labels_are_noisy_for_each_network_in_its_own_way(data):
    x, y = data
    population = run(data, {"label_noise": [0.0, 0.6, 0.6]})
    assert_same(population[0], run(data, {})[0])
    for who in (1, 2):
        row = {"seed": jnp.int32(who), "learning_rate": [0.05, 0.02, 0.1][who], "activation": 1}
        noisy = noisy_labels(row | {"label_noise": 0.6}, jnp.arange(40), y, 2)
        assert 5 < int((noisy != y).sum()) < 20
        trained = reference((x, noisy), row, 25)
        assert_same(population[who], trained, rtol=2e-4, atol=2e-5)


def test_dropout_has_the_rate_of_the_row():
    function = zoo.Function("mlp", {"widths": (1, 4000, 1), "activation": "linear", "bias": False})
    params = {
        "dense_0": {"kernel": jnp.ones((1, 4000))},
        "dense_1": {"kernel": jnp.ones((4000, 1))},
    }
    x = jnp.ones((2, 1))
    for rate in (0.0, 0.3):
        y = function.apply(params, x, {"dropout": rate}, key=KEY)[:, 0] / 4000
        np.testing.assert_allclose(y, 1.0, atol=0.05)  # inverted: the mean is kept
        assert (y[0] == y[1]) == (rate == 0)
    np.testing.assert_allclose(function.apply(params, x, {"dropout": 0.3})[:, 0], 4000)


def test_training_stops_where_the_user_says(data):
    stop = lambda loss, row, step: (loss < 0.4) & (step >= 3)  # noqa: E731
    hyper = {"learning_rate": [0.1, 1e-5, 0.1]}
    rows = []
    population = run(
        data, hyper, stop=stop, steps=400, batch_size=None, every=20,
        log=lambda done, metrics: rows.append(done),
    )  # fmt: skip
    assert population.columns["stopped"].tolist() == [True, False, True]
    taken = population.columns["steps_taken"]
    assert taken[1] == 400 and all(3 <= taken[[0, 2]]) and all(taken[[0, 2]] < 400)
    for who in (0, 2):  # the loss recorded is that of the weights kept, and is the first below
        loss = zoo.METRICS["cross_entropy"](
            MLP.apply(population[who], data[0], population.row(who)), data[1]
        )
        np.testing.assert_allclose(loss, population.columns["loss"][who], rtol=1e-5)
        assert loss < 0.4
        before = run(data, hyper | {"steps": [int(taken[who]) - 1] * 3}, batch_size=None)
        loss = MLP.apply(before[who], data[0], population.row(who))
        assert zoo.METRICS["cross_entropy"](loss, data[1]) >= 0.4
    fast = run(data, {"learning_rate": [0.1] * 3}, stop=stop, steps=4000, batch_size=None, every=20)
    assert all(fast.columns["stopped"])


def test_each_network_learns_its_own_signal():
    siren = zoo.Function("siren", {"widths": (2, 16, 16, 1), "offset": 0.5})
    coordinates = zoo.grid(6, 6)
    images = np.random.default_rng(0).uniform(size=(4, 36, 1)).astype(np.float32)
    hyper = {"image": [3, 0, 3, 1, 2], "learning_rate": [1e-3] * 5}
    options = {"own": ("image", images), "steps": 300, "key": KEY}
    population = zoo.train(siren, "mse", coordinates, hyper, **options)
    outputs = population.apply(coordinates)
    for who, image in enumerate(hyper["image"]):
        errors = [float(jnp.mean((outputs[who] - other) ** 2)) for other in images]
        assert np.argmin(errors) == image and errors[image] < 0.01
    two = population.params["dense_0"]["kernel"][np.array([0, 2])]  # of one image
    assert np.abs(two[0] - two[1]).max() > 0.1
    pieces = zoo.train(siren, "mse", coordinates, hyper, **options, chunk=2)
    assert_same(pieces.params, population.params, rtol=1e-3, atol=1e-5)
    batched = zoo.train(siren, "mse", coordinates, hyper, **options, batch_size=18)
    assert np.all(batched.columns["loss"] < 0.05)
    evaluation = zoo.Evaluation(coordinates, images, {"loss": "mse"}, own_targets="image",
                                tolerance=1e-2)  # fmt: skip
    zoo.verify(population, evaluation)
    with pytest.raises(ValueError, match="goes from 0 to 3, and `own` has 2 rows"):
        zoo.train(siren, "mse", coordinates, hyper, own=("image", images[:2]), steps=1, key=KEY)


@pytest.mark.parametrize(("lanes", "sharded"), [(1, False), (3, False), (2, True)])
def test_lanes_and_devices_change_nothing(data, lanes, sharded):
    hyper = {"learning_rate": np.geomspace(0.01, 0.1, 7), "activation": [0, 1, 0, 1, 1, 0, 1]}
    mesh = train.make_mesh() if sharded else None
    found = run(data, hyper, lanes=lanes, mesh=mesh)
    assert_same(found.params, run(data, hyper).params, rtol=1e-4, atol=1e-6)
    assert found.columns["run"].tolist() == list(range(7))


def test_lanes_fill_a_cache():
    assert fitting_lanes(CACHE // 4, 100, None) == 4
    assert fitting_lanes(CACHE // 4, 3, None) == 3
    assert fitting_lanes(10 * CACHE, 100, None) == 1


def test_chunks_come_one_by_one_and_can_be_skipped(data):
    hyper = {"learning_rate": [0.05, 0.02, 0.1], "steps": [20, 5, 10]}
    options = {"key": KEY, "batch_size": 8, "chunk": 1, "labels": {"activation": ("relu", "tanh")}}
    hyper["activation"] = ["relu"] * 3
    parts = list(zoo.train_chunks(MLP, "cross_entropy", data, hyper, **options))
    assert [p.columns["run"].tolist() for p in parts] == [[1], [2], [0]]
    rest = list(zoo.train_chunks(MLP, "cross_entropy", data, hyper, skip=2, **options))
    assert len(rest) == 1
    assert_same(rest[0].params, parts[2].params)


def test_a_name_of_a_loss_needs_a_function(data):
    with pytest.raises(ValueError, match="needs a `zoo.Function`"):
        zoo.train(lambda row, *, key: jnp.zeros(3), "mse", data, {"seed": [0]}, steps=1, key=KEY)
    with pytest.raises(ValueError, match="a loss is one of"):
        zoo.train(MLP, "accuracy", data, {"activation": [0]}, steps=1, key=KEY)
