"""Published flows as configurations: what they are made of, and that they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.generation import fit
from wsljax.generation.families import deep_weight_flow, flown, geometric_flow
from wsljax.generation.spaces import PrincipalSpace, WeightSpace
from wsljax.zoo import Population


@functools.cache
def zoo():
    """ReLU networks near one, each with its units in an order and at a scale of its own."""

    def fn(p, x):
        return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]

    params = jax.tree.map(
        lambda x: x.astype(jnp.float32), nets.normal(0, w=(3, 4), b=(4,), v=(4, 2))
    )
    x = nets.inputs(12, 3).astype(jnp.float32)
    spec = symmetry.infer(fn, params, x, kinds=("permutation", "scale"))
    keys = jax.random.split(jax.random.key(1), 40)

    def draw(key):
        noise, move = jax.random.split(key)
        near = {n: v + 0.05 * jax.random.normal(noise, v.shape, v.dtype) for n, v in params.items()}
        return spec.act(spec.sample(move), near)

    return fn, params, x, Population(jax.vmap(draw)(keys), {}, spec)


def trained(model, population, steps, key=0):
    return fit(
        model,
        population,
        steps=steps,
        batch_size=16,
        optimiser=optax.adam(3e-3),
        key=jax.random.key(key),
        average=None,
        every=steps,
    )


def error(fn, x, drawn, truth):
    answers = jax.vmap(fn, (0, None))(drawn, x)
    return float(jnp.sqrt(jnp.mean((answers - truth) ** 2)) / jnp.std(truth))


@pytest.mark.slow
def test_flows_on_spheres_generate_networks_of_the_function():
    fn, params, x, population = zoo()
    # no alignment: the network is equivariant
    options = {"align": False, "channels": 8, "layers": 1, "method": "universal", "steps": 10}
    model = geometric_flow(population, key=jax.random.key(0), **options)
    truth = fn(params, x)
    before = error(fn, x, model.sample(jax.random.key(1), 64), truth)
    found = trained(model, population, 200)
    drawn = found.generator.sample(jax.random.key(1), 64)
    assert before > 0.8 and error(fn, x, drawn, truth) < 0.5
    length = jnp.sqrt(jnp.sum(drawn["w"] ** 2, 1) + drawn["b"] ** 2)
    np.testing.assert_allclose(length, 2, rtol=1e-4)  # the weights into each unit have one length


@pytest.mark.parametrize("geometry", ["euclidean", "normalised", "spheres"])
@pytest.mark.parametrize("coupling", ["independent", "minibatch", "quotient"])
@pytest.mark.slow
def test_all_geometries_and_couplings(geometry, coupling):
    fn, params, x, population = zoo()
    model = geometric_flow(
        population,
        key=jax.random.key(0),
        geometry=geometry,
        coupling=coupling,
        channels=8,
        layers=1,
        method="universal",
        steps=10,
    )
    found = trained(model, population, 200)
    drawn = found.generator.sample(jax.random.key(1), 64)
    assert error(fn, x, drawn, fn(params, x)) < (1.2 if geometry == "euclidean" else 0.5)


@pytest.mark.slow
def test_flows_of_components_stay_in_the_hull():
    fn, params, x, population = zoo()
    model = deep_weight_flow(population, key=jax.random.key(0), width=32, components=5, steps=9)
    found = trained(model, population, 150)
    drawn = found.generator.sample(jax.random.key(1), 16)
    (space,) = (s for s in model.space.spaces if isinstance(s, PrincipalSpace))
    again = space.decode_all(space.encode_all(drawn))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(drawn)):
        np.testing.assert_allclose(a, b, atol=1e-4)
    spread = float(jnp.std(jax.vmap(space.encode)(drawn)))
    assert 0.2 < spread < 2  # of the size of training networks, from narrow noise


def test_noise_from_a_table():
    _, _, _, population = zoo()
    model = deep_weight_flow(
        population, key=jax.random.key(0), width=8, align=False, source="fixed", rows=3, steps=2
    )
    drawn = np.asarray(model.sample(jax.random.key(1), 32)["w"]).reshape(32, -1)
    assert len(np.unique(drawn.round(6), axis=0)) == 3  # no more networks than rows
    assert np.std(drawn) == pytest.approx(0.01, rel=0.5)
    with pytest.raises(ValueError, match="fresh"):
        deep_weight_flow(population, key=jax.random.key(0), source="new")


def test_flows_of_latents_take_any_space():
    _, _, _, population = zoo()
    model = flown(WeightSpace.fit(population), key=jax.random.key(0), width=8, layers=1, steps=2)
    drawn = model.sample(jax.random.key(1), 3)
    assert drawn["w"].shape == (3, 3, 4) and model.coupling is not None


def test_what_is_missing_is_said():
    _, _, _, population = zoo()
    with pytest.raises(ValueError, match="geometry"):
        geometric_flow(population, key=jax.random.key(0), geometry="round")
    with pytest.raises(ValueError, match="spec"):
        geometric_flow(population.with_spec(None), key=jax.random.key(0))
