"""What all generators share: drawing many networks, fitting, populations."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.generation.exact import MU, ExactNet, Vector, population
from tests.generation.nets import Mlp
from wsljax import train, zoo
from wsljax.generation import Batch, Diffusion, Flow, Generator, fit, sample_population
from wsljax.generation.fitting import find_condition
from wsljax.generation.processes import Straight, VelocityTarget
from wsljax.generation.samplers import DDIM, Ancestral, Euler
from wsljax.generation.spaces import IdentitySpace, Space, WeightSpace

KEY = jax.random.key(0)


def stochastic():
    """The exact flow of a normal population, drawn with fresh noise in each step."""
    net = ExactNet(Straight(), VelocityTarget())
    return Flow(net, IdentitySpace(MU), conditioner=Vector(), sampler=Ancestral(6))


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), a, b)


def test_a_network_depends_on_the_key_and_its_place_alone():
    model = stochastic()
    all_ = model.sample(KEY, 10)
    assert jax.tree.map(jnp.shape, all_) == {"w": (10, 2, 3), "b": (10, 3)}
    same(model.sample(KEY, 3), jax.tree.map(lambda a: a[:3], all_))
    same(model.sample(KEY, 10, at_once=4), all_)
    assert not np.allclose(model.sample(jax.random.key(1), 3)["b"], all_["b"][:3])
    assert not np.allclose(all_["b"][0], all_["b"][1])


def test_under_jit_and_vmap():
    model = stochastic()
    all_ = model.sample(KEY, 3)
    same(jax.jit(lambda key: model.sample(key, 3))(KEY), all_)
    keys = jax.random.split(KEY, 2)
    found = jax.vmap(lambda key: model.sample(key, 3))(jnp.stack([KEY, keys[0]]))
    same(jax.tree.map(lambda a: a[0], found), all_)


@pytest.mark.parametrize("n, at_once", [(8, None), (10, 4)])
def test_sharded_is_unsharded(n, at_once):
    model, mesh = stochastic(), train.make_mesh()
    condition = jnp.linspace(-1.0, 1.0, n)
    found = model.sample(KEY, n, condition=condition, mesh=mesh, at_once=at_once)
    same(found, model.sample(KEY, n, condition=condition))
    if (n, at_once) == (8, None):
        assert len(found["w"].sharding.device_set) == 4
        assert found["w"].addressable_shards[0].data.shape == (2, 2, 3)


def test_sampling_is_compiled_once():
    traces = []

    def net(x, level, told, beside):
        traces.append(1)
        return jax.tree.map(jnp.zeros_like, x)

    model = Flow(net, IdentitySpace(MU), sampler=Euler(3))
    model.sample(KEY, 4)
    first = len(traces)
    model.sample(jax.random.key(1), 4)
    assert first and len(traces) == first


def test_conditions_need_a_row_for_each_network():
    with pytest.raises(ValueError, match=r"asked has shape \(3,\).*each of the 4 networks"):
        stochastic().sample(KEY, 4, condition={"asked": jnp.zeros(3)})
    for n, at_once in ((0, None), (3, 0)):
        with pytest.raises(ValueError, match="both are numbers of networks"):
            stochastic().sample(KEY, n, at_once=at_once)


def test_dtypes_are_kept_and_other_leaves_carried_along():
    like = {
        "low": jnp.ones(4, jnp.bfloat16), "high": jnp.ones(2, jnp.float64), "count": jnp.asarray(3),
        "switch": True, "key": jax.random.key(5),
    }  # fmt: skip
    seen = []

    def net(x, level, told, beside):
        seen.append(jax.tree.map(lambda a: str(a.dtype), x))
        return jax.tree.map(jnp.zeros_like, x)

    model = Flow(net, IdentitySpace(like), sampler=Euler(2))
    drawn = model.sample(KEY, 3)
    assert drawn["low"].dtype == jnp.bfloat16 and drawn["high"].dtype == jnp.float64
    assert drawn["count"].tolist() == [3, 3, 3] and drawn["switch"] is True
    assert (jax.random.key_data(drawn["key"]) == jax.random.key_data(like["key"])).all()
    assert seen[0]["low"] == "float32" and seen[0]["high"] == "float64"
    stack = {k: v if k == "switch" else jnp.stack([v] * 6) for k, v in like.items()}
    data = model.prepare(Batch(stack))
    assert jax.tree.leaves(data.params)[0].shape[0] == 6
    loss = eqx.filter_jit(lambda m, b: m.loss(b, key=KEY))(model, data)
    assert np.isfinite(float(loss))


class Padded(Space):
    """Three weights, and one number of padding."""

    like: Any

    def __init__(self):
        self.like = jax.ShapeDtypeStruct((4,), jnp.float32)

    @property
    def mask(self):
        return jnp.array([1, 1, 1, 0])

    def encode(self, params):
        return jnp.append(params, 0.0)

    def decode(self, x):
        return x


def test_padding_has_no_noise_and_no_loss():
    def net(x, level, told, beside):
        return jnp.array([0.0, 0.0, 0.0, 1e6]) + x

    data = Batch(jnp.ones((64, 3)))
    for model in (
        Flow(net, Padded(), sampler=Euler(3)),
        Diffusion(net, Padded(), sampler=DDIM(3), target="v"),
    ):
        assert (model.sample(KEY, 5)[:, 3] == 0).all()
        loss = eqx.filter_jit(lambda m, b: m.loss(b, key=KEY))(model, model.prepare(data))
        assert float(loss) < 100


def small(**options):
    like = jax.tree.map(lambda m: m.astype(jnp.float32), MU)
    data = population(96, like)
    return Flow(Mlp(like, 8, key=KEY), WeightSpace.fit(data), **options), data


def test_fitting_moves_the_denoiser_and_leaves_the_space():
    model, data = small()
    held_out = jax.tree.map(lambda a: a[64:], data)
    training = jax.tree.map(lambda a: a[:64], data)
    options = dict(steps=40, batch_size=16, optimiser=optax.adamw(1e-2), key=KEY, every=10)
    fitted = fit(model, training, held_out=held_out, select=True, **options)
    assert [row["step"] for row in fitted.history] == [10, 20, 30, 40]
    values = [row["held_out"] for row in fitted.history]
    assert values[fitted.step // 10 - 1] == min(values) and values[-1] < values[0]
    same(fitted.generator.space.normaliser, model.space.normaliser)
    moved = jnp.abs(fitted.generator.net.skip.weight - model.net.skip.weight).max()
    assert float(moved) > 1e-3


class Mean(Generator):
    """The mean of all networks, and no other."""

    mean: jax.Array

    def loss(self, batch, *, key):
        return jnp.mean((batch.params["w"] - self.mean) ** 2)

    def draw(self, key, *, condition=None, guidance=None):
        return {"w": self.mean, "tag": "x"}


def test_weights_are_averaged():
    data = {"w": jnp.ones((8, 1))}
    options = dict(batch_size=8, optimiser=optax.sgd(0.1), key=KEY)
    mean = fit(Mean(jnp.zeros(1)), data, steps=3, average=0.9, **options).generator.mean
    seen = 1 - 0.8 ** np.array([1.0, 2.0, 3.0])  # a step goes a fifth of the way
    weights = np.array([0.81, 0.9, 1.0])
    np.testing.assert_allclose(mean, [weights @ seen / weights.sum()], rtol=1e-6)
    last = fit(Mean(jnp.zeros(1)), data, steps=3, average=None, **options).generator.mean
    np.testing.assert_allclose(last, seen[-1:], rtol=1e-6)


def test_augmented_networks_are_drawn_anew_in_each_step():
    def augment(params, *, key):
        return {**params, "w": params["w"] + 2 * jax.random.bernoulli(key)}

    stack = {"w": jnp.zeros((50, 1)), "tag": "x"}
    options = dict(steps=400, batch_size=25, optimiser=optax.sgd(0.1), key=KEY)
    model = fit(Mean(jnp.zeros(1)), stack, augment=augment, **options).generator
    assert float(model.mean[0]) == pytest.approx(1.0, abs=0.1)
    assert model.sample(KEY, 2)["w"].shape == (2, 1) and model.sample(KEY, 2)["tag"] == "x"


def test_populations_that_cannot_be_fitted():
    model, data = small()
    options = dict(steps=1, batch_size=4, optimiser=optax.sgd(0.1), key=KEY)
    bad = {**data, "w": data["w"].at[5, 0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="params/w is not finite in 1 of 96 networks, network 5"):
        fit(model, bad, **options)
    with pytest.raises(ValueError, match="need one row for each network|one row for each"):
        fit(model, data, condition=jnp.zeros(7), **options)
    with pytest.raises(ValueError, match="no column 'loss'"):
        fit(model, data, condition="loss", **options)
    with pytest.raises(ValueError, match="`held_out`; give some"):
        fit(model, data, select=True, **options)


def test_conditions_go_by_the_names_of_columns():
    columns = {"loss": jnp.arange(3.0), "digit": jnp.arange(3)}
    all_ = zoo.Population({"w": jnp.zeros((3, 1))}, columns)
    assert find_condition(all_, "loss").tolist() == [0, 1, 2]
    assert set(find_condition(all_, ["loss", "digit"])) == {"loss", "digit"}
    found = find_condition(all_, {"asked": "loss", "start": {"w": jnp.ones((3, 1))}})
    assert found["asked"].tolist() == [0, 1, 2] and found["start"]["w"].shape == (3, 1)
    assert find_condition(all_, all_)["w"].shape == (3, 1) and find_condition(all_, None) is None


def test_a_conditional_flow_is_fitted_by_a_column():
    """The mean of each network is its condition."""
    _, data = small()
    told = jnp.where(jnp.arange(96) % 2 == 0, -1.0, 1.0).astype(jnp.float32)
    columns = zoo.Population(
        jax.tree.map(lambda a: a * 0 + told.reshape(-1, *[1] * (a.ndim - 1)), data), {"sign": told}
    )

    class Told(eqx.Module):
        gain: jax.Array

        def __call__(self, x, level, told, beside):
            return jax.tree.map(lambda a: jnp.zeros_like(a) + self.gain * told, x)

    model = Flow(Told(jnp.zeros(())), IdentitySpace(MU), target="data", conditioner=Vector())
    options = dict(steps=100, batch_size=24, optimiser=optax.adam(0.1), key=KEY, average=None)
    model = fit(model, columns, condition="sign", **options).generator
    assert float(model.net.gain) == pytest.approx(1.0, abs=0.02)


def test_drawn_networks_are_a_population():
    like = zoo.Population(population(5), {"loss": jnp.zeros(5)})
    new = sample_population(stochastic(), KEY, 4, like=like, condition=jnp.zeros(4))
    assert len(new) == 4 and set(new.columns) == {"generated"} and new.columns["generated"].all()
    asked = {"loss": jnp.linspace(0, 1, 4)}
    model = eqx.tree_at(lambda m: m.conditioner, stochastic(), ByName())
    new = sample_population(
        model, KEY, 4, like=like, condition=asked, columns={"mark": jnp.ones(4)}
    )
    assert new.columns["loss"].tolist() == asked["loss"].tolist() and "mark" in new.columns


class ByName(Vector):
    def __call__(self, raw, *, key=None):
        return super().__call__(raw["loss"], key=key)


def test_columns_that_the_function_reads_are_kept():
    function = zoo.Function("mlp", {"widths": (3, 5, 2), "activation": ("relu", "tanh")})
    like = zoo.Population(population(5), {"activation": jnp.full(5, 1)}, function=function)
    new = sample_population(stochastic(), KEY, 3, like=like)
    assert new.columns["activation"].tolist() == [1, 1, 1] and new.function is function
    mixed = like.with_columns({"activation": jnp.arange(5) % 2})
    with pytest.raises(ValueError, match="reads column 'activation'"):
        sample_population(stochastic(), KEY, 3, like=mixed)
