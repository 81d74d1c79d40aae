"""The loop: against a plain loop over optax, resumed, sharded, averaged, selected."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import train
from wsljax.train.step import averaged

OPTIMISER = optax.adamw(optax.cosine_decay_schedule(1e-2, 60), weight_decay=1e-2)


@pytest.fixture
def problem(key):
    x = jax.random.normal(key, (50, 3))
    data = x, jnp.sin(x.sum(axis=1))
    return eqx.nn.MLP(3, "scalar", 8, depth=1, key=key), data


def loss(model, batch, *, key):
    x, y = batch
    noise = 0.01 * jax.random.normal(key, y.shape)
    missed = jax.vmap(model)(x) + noise - y
    return jnp.mean(missed**2), {"mae": jnp.mean(jnp.abs(missed))}


def arrays(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def assert_close(a, b, rtol):
    for x, y in zip(arrays(a), arrays(b)):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * float(jnp.abs(y).max()))


def fit(problem, **options):
    model, data = problem
    settings = dict(steps=60, batch_size=8, optimiser=OPTIMISER, key=jax.random.key(2), every=25)
    return train.fit(loss, model, data, **{**settings, **options})


def plain_loop(problem, steps, batch_size=8):
    """What `fit` must do, one step at a time."""
    model, (x, y) = problem
    params, static = eqx.partition(model, eqx.is_inexact_array)
    opt_state = OPTIMISER.init(params)
    order_key, loss_key = jax.random.split(jax.random.key(2))

    @jax.jit
    def one(params, opt_state, batch, key):
        def value(params):
            return loss(eqx.combine(params, static), batch, key=key)[0]

        updates, opt_state = OPTIMISER.update(jax.grad(value)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for step in range(steps):
        epoch, place = divmod(step, 50 // batch_size)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), 50)
        drawn = order[place * batch_size : (place + 1) * batch_size]
        batch_key = jax.random.fold_in(loss_key, step)
        params, opt_state = one(params, opt_state, (x[drawn], y[drawn]), batch_key)
    return eqx.combine(params, static)


def test_fit_is_the_plain_loop(problem):
    before = [np.array(leaf) for leaf in arrays(problem[0])]
    result = fit(problem)
    assert_close(result.model, plain_loop(problem, 60), 1e-9)
    for old, leaf in zip(before, arrays(problem[0])):
        np.testing.assert_array_equal(old, leaf)  # the caller's model is neither changed nor freed
    assert [row["step"] for row in result.history] == [25, 50, 60]
    assert set(result.history[0]) == {"step", "loss", "mae"}


def test_every_changes_nothing(problem):
    assert_close(fit(problem, every=60).model, fit(problem, every=7).model, 1e-12)


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_resumed_run_is_identical(problem, tmp_path, average):
    options = dict(
        average=average,
        select=("loss", "min"),
        evaluate=lambda model: {"norm": sum(jnp.sum(leaf**2) for leaf in arrays(model))},
    )
    whole = fit(problem, **options)
    rows = []
    with train.Checkpointer(tmp_path / "c") as store:
        fit(problem, **options, steps=25, checkpointer=store)
    with train.Checkpointer(tmp_path / "c") as store:

        def log(step, row):
            rows.append(step)

        resumed = fit(problem, **options, checkpointer=store, log=log)
        again = fit(problem, **options, checkpointer=store, log=log)  # nothing left to do
    assert rows == [50, 60]
    for other in (resumed, again):
        for name in ("model", "best"):
            for x, y in zip(arrays(getattr(whole, name)), arrays(getattr(other, name))):
                np.testing.assert_array_equal(x, y)
        assert other.best_step == whole.best_step
        assert other.history == whole.history


def test_sharded_is_unsharded(problem):
    assert jax.device_count() == 4
    assert_close(fit(problem, mesh=train.make_mesh()).model, fit(problem).model, 1e-9)


def test_select_keeps_the_best_and_only_by_its_metric(problem):
    values = iter([3.0, 1.0, 2.0])
    options = dict(every=20, evaluate=lambda model: {"validation": next(values)})
    result = fit(problem, **options, select=("validation", "min"))
    assert result.best_step == 40
    assert_close(result.best, plain_loop(problem, 40), 1e-9)
    assert_close(result.model, plain_loop(problem, 60), 1e-9)
    values = iter([3.0, 1.0, 2.0])
    assert fit(problem, **options, select=("validation", "max")).best_step == 20


def test_the_average_is_a_weighted_mean_of_the_path(key):
    optimiser = optax.sgd(0.1)
    start = jnp.zeros(())
    step = train.make_step(
        lambda w, x, *, key: jnp.sum((w - x) ** 2), start, optimiser, average=0.8
    )
    state = train.init_state(start, optimiser, average=0.8)
    path = []
    for _ in range(5):
        state, _ = step(state, jnp.ones(()), key)
        path.append(float(state.params))
    weights = 0.8 ** np.arange(4, -1, -1)
    assert np.isclose(averaged(state, 0.8), np.average(path, weights=weights))


def test_batches_cover_each_epoch_and_do_not_depend_on_where_a_call_starts(key):
    whole = train.epoch_batches(10, 3, 0, 9, key=key)
    for epoch in whole.reshape(3, 9):
        assert len(set(epoch)) == 9
    assert len({tuple(epoch) for epoch in whole.reshape(3, 9)}) == 3
    for start, stop in [(0, 1), (2, 4), (5, 9), (8, 9)]:
        np.testing.assert_array_equal(
            train.epoch_batches(10, 3, start, stop, key=key), whole[start:stop]
        )


def test_errors_name_what_is_wrong(problem):
    model, (x, y) = problem
    with pytest.raises(ValueError, match=r"different numbers of samples: \{'0': 50, '1': 49\}"):
        fit((model, (x, y[:-1])))
    with pytest.raises(ValueError, match="`batch_size` is 51 but there are 50 samples"):
        fit(problem, batch_size=51)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        fit(problem, select=("loss", "lowest"))
    with pytest.raises(ValueError, match=r"names 'accuracy', but the metrics are \['loss', 'mae'"):
        fit(problem, select=("accuracy", "max"))


def test_a_checkpoint_of_another_model_is_refused(problem, tmp_path, key):
    with train.Checkpointer(tmp_path / "c") as store:
        fit(problem, steps=5, checkpointer=store)
        wider = eqx.nn.MLP(3, "scalar", 9, depth=1, key=key)
        with pytest.raises(ValueError, match="layers/0/weight"):
            fit((wider, problem[1]), checkpointer=store)
