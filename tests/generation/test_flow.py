"""Flows: the closed form, couplings, manifolds, and a small net that is trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.generation.exact import MU, ExactNet, Vector, population, slope
from tests.generation.nets import Mlp
from wsljax.generation import Batch, Flow, NormalSource, TaskGradient, fit
from wsljax.generation.flow import Coupling, Geometry
from wsljax.generation.processes import DataTarget, Straight, UniformTimes, VelocityTarget
from wsljax.generation.samplers import Ancestral, Euler, Heun, RungeKutta4
from wsljax.generation.spaces import IdentitySpace

S = 0.5
SPACE = IdentitySpace(MU)


class Sphere(eqx.Module):
    """The unit sphere, for trees of one vector."""

    def project(self, x):
        return {"w": x["w"] / jnp.linalg.norm(x["w"])}

    def interpolate(self, x0, x1, t):
        a, b = x0["w"], x1["w"]
        angle = jnp.arccos(jnp.clip(a @ b, -1, 1))
        size = jnp.sin(angle)
        point = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / size
        velocity = angle * (jnp.cos(t * angle) * b - jnp.cos((1 - t) * angle) * a) / size
        return {"w": point}, {"w": velocity}


VECTOR = IdentitySpace({"w": jnp.zeros(3)})


def loss_of(model, batch):
    return eqx.filter_jit(lambda m, b: m.loss(b, key=jax.random.key(0)))(model, batch)


def exact(target, **options):
    return Flow(ExactNet(Straight(), target, s=S), SPACE, target=target, **options)


@pytest.mark.parametrize("target", [VelocityTarget(), DataTarget()], ids=["velocity", "data"])
def test_the_exact_flow_is_mu_plus_s_times_the_noise(target):
    model = exact(target, sampler=RungeKutta4(40))
    drawn = model.sample(jax.random.key(0), 3)
    starts = jax.vmap(
        lambda i: model.start(jax.random.split(jax.random.fold_in(jax.random.key(0), i))[0])
    )(jnp.arange(3))
    for name, m in MU.items():
        np.testing.assert_allclose(drawn[name], m + S * starts[name], atol=1e-4)


def test_the_loss_is_smallest_at_the_exact_field():
    """The residual of the velocity, (e - x), has variance s² / ((1 - u)² + u² s²), u = 1 - t, for each t."""
    t = 0.4
    found = loss_of(exact(VelocityTarget(), times=UniformTimes(t, t)), Batch(population(4000)))
    np.testing.assert_allclose(found, S**2 / (t**2 + (1 - t) ** 2 * S**2), rtol=0.03)


def test_a_small_source():
    """x_t of noise of deviation 0.01 about a single network: the velocity is known, so is the loss."""
    model = Flow(
        lambda x, level, told, beside: jax.tree.map(lambda m: -m, MU),
        SPACE,
        source=NormalSource(0.01),
    )
    batch = Batch(population(64, s=0.0))
    np.testing.assert_allclose(loss_of(model, batch), 1e-4, rtol=0.2)
    drawn = eqx.tree_at(lambda m: m.sampler, model, Euler(4)).sample(jax.random.key(0), 50)
    np.testing.assert_allclose((drawn["w"] - MU["w"]).std(), 0.01, rtol=0.2)


def test_sigma_spreads_the_points_of_the_path():
    seen = []

    def net(x, level, told, beside):
        jax.debug.callback(lambda a: seen.append(float(a)), x["w"].std())
        return jax.tree.map(jnp.zeros_like, x)

    zeros = Batch(jax.tree.map(lambda m: jnp.zeros((64, *m.shape)), MU))
    flow = Flow(net, SPACE, sigma=3.0, source=NormalSource(0.0))
    jax.block_until_ready(loss_of(flow, zeros))
    jax.effects_barrier()
    assert np.mean(seen) == pytest.approx(3.0, rel=0.15)


class Reversed:
    """A coupling that turns the sources around."""

    def __call__(self, sources, targets, *, key):
        return jax.tree.map(lambda a: a[::-1], sources), targets


def test_couplings_pair_sources_and_leave_conditions_with_their_networks():
    pairs = []

    class Line:
        """Shows the ends that a flow has been given."""

        def project(self, x):
            return x

        def interpolate(self, x0, x1, t):
            jax.debug.callback(lambda a, b: pairs.append((a.item(), b.item())), x0["w"], x1["w"])
            return x0, x1

    def count(key, like):
        return {"w": jax.random.uniform(key, (1,))}

    said = []

    def net(x, level, told, beside):
        jax.debug.callback(lambda a, b: said.append((a.item(), b.item())), x["w"], told)
        return x

    space = IdentitySpace({"w": jnp.zeros(1)})
    numbers = jnp.arange(4.0)
    options = dict(geometry=Line(), source=count, conditioner=Vector())
    for coupling in (None, Reversed()):
        flow = Flow(net, space, coupling=coupling, **options)
        loss_of(flow, Batch({"w": numbers[:, None]}, numbers))
        jax.effects_barrier()
    plain, turned = dict(pairs[:4]), dict(pairs[4:])
    assert [turned[float(i)] for i in range(4)] == [plain[float(3 - i)] for i in range(4)]
    assert all(network == condition for network, condition in said) and len(said) == 8
    assert isinstance(Reversed(), Coupling) and isinstance(Line(), Geometry)


def turn(x, level, told, beside):
    """A rotation of the sphere about its third axis, of which nothing is tangent but what turns."""
    a = x["w"]
    return {
        "w": jnp.stack([-a[1], a[0], 0 * a[0]]) + 5 * a
    }  # and a radial part, which is no velocity


@pytest.mark.parametrize("sampler, order", [(Euler, 1), (Heun, 2), (RungeKutta4, 4)])
def test_a_flow_on_a_sphere_stays_there_and_has_its_order(sampler, order):
    angle = jnp.array(
        [[jnp.cos(1.0), jnp.sin(1.0), 0], [-jnp.sin(1.0), jnp.cos(1.0), 0], [0, 0, 1]]
    )
    steps, errors = (16, 64), []
    key = jax.random.fold_in(jax.random.key(0), 0)
    for n in steps:
        make = sampler(n, euler_last=False) if sampler is Heun else sampler(n)
        flow = Flow(turn, VECTOR, geometry=Sphere(), sampler=make)
        drawn = flow.sample(jax.random.key(0), 1)["w"][0]
        start = flow.start(jax.random.split(key)[0])["w"]
        assert abs(float(jnp.linalg.norm(drawn)) - 1) < 1e-9
        errors.append(float(jnp.linalg.norm(drawn - angle @ start)))
    assert slope(steps, errors) == pytest.approx(order, abs=0.25) or max(errors) < 1e-12


def test_predicting_the_network_on_a_sphere_leads_there():
    end = {"w": jnp.array([0.6, 0.0, 0.8])}
    net = lambda x, level, told, beside: {"w": 3 * end["w"]}  # noqa: E731
    flow = Flow(net, VECTOR, geometry=Sphere(), target="data", sampler=Euler(50))
    drawn = flow.sample(jax.random.key(0), 5)["w"]
    np.testing.assert_allclose(drawn, jnp.broadcast_to(end["w"], (5, 3)), atol=1e-3)
    batch = flow.prepare(Batch({"w": jnp.ones((8, 3))}))
    np.testing.assert_allclose(jnp.linalg.norm(batch.params["w"], axis=1), 1.0)
    task = TaskGradient(lambda p: -4 * p["w"][1])
    guided = flow.sample(jax.random.key(0), 5, task=task, sampler=Euler(50))["w"]
    np.testing.assert_allclose(jnp.linalg.norm(guided, axis=1), 1.0, atol=1e-9)


def test_guidance_on_a_sphere_goes_down_the_loss():
    flow = Flow(turn, VECTOR, geometry=Sphere(), sampler=Euler(50))
    plain = flow.sample(jax.random.key(0), 20)["w"][:, 2]
    task = TaskGradient(lambda p: -2 * p["w"][2])
    guided = flow.sample(jax.random.key(0), 20, task=task)["w"][:, 2]
    assert float((guided - plain).min()) > 0


def test_what_has_no_meaning_on_a_manifold_says_so():
    with pytest.raises(ValueError, match="on a manifold the target"):
        Flow(turn, VECTOR, geometry=Sphere(), target="noise")
    flow = Flow(turn, VECTOR, geometry=Sphere())
    for sampler in (Ancestral(10), Heun(10, churn=5.0)):
        with pytest.raises(ValueError, match="adds noise"):
            flow.sample(jax.random.key(0), 1, sampler=sampler)


def test_a_trained_flow_recovers_mean_and_variance():
    """Where a published flow loses the variance of N(1, I)."""
    like = {"w": jnp.ones((2, 3), jnp.float32), "b": jnp.ones(3, jnp.float32)}
    data = population(2000, like, s=1.0)
    flow = Flow(Mlp(like, 64, key=jax.random.key(0)), IdentitySpace(like), sampler=Heun(20))
    options = dict(batch_size=128, key=jax.random.key(1), average=0.99, every=500)
    flow, _, _ = fit(flow, data, steps=1500, optimiser=optax.adam(2e-3), **options)
    drawn = flow.sample(jax.random.key(3), 2000)
    for name in like:
        np.testing.assert_allclose(drawn[name].mean(0), data[name].mean(0), atol=0.15)
        np.testing.assert_allclose(drawn[name].std(0), data[name].std(0), rtol=0.12)
