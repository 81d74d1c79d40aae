"""Published diffusion models as configurations: that they learn, hear conditions, and generate what they say."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax import symmetry
from wsljax.generation import Batch, fit
from wsljax.generation.baselines import LeafGaussian
from wsljax.generation.conditions import (
    ClassCondition,
    Dropped,
    Examples,
    Graph,
    NetworkCondition,
    SetCondition,
    VectorCondition,
    architecture_graph,
)
from wsljax.generation.families import (
    Ensemble,
    bend,
    conditional_p_diff,
    d2nwg,
    draw_ensemble,
    flat_latents,
    g_pt,
    gpd,
    hyper_diffusion,
    lora_diffusion,
    match_conditions,
    p_diff,
    prompt,
    rpg,
    updates,
)
from wsljax.generation.samplers import DDIM
from wsljax.generation.spaces import FlatSpace
from wsljax.zoo import Population

SMALL = {"size": 2, "channels": (8,), "steps": 150, "batch_size": 32}
UNTRAINED = {**SMALL, "steps": 1}
AXES = {"w": "_ h", "b": "h", "v": "h _"}


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def apply(p, x):
    return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]


@functools.cache
def zoo():
    """Networks near one of two, which a column tells apart."""
    label = jnp.arange(48) % 2
    sign = (2.0 * label - 1)[:, None, None]
    params = {
        "w": sign * 1.0 + 0.1 * normal(0, 48, 3, 4),
        "b": sign[..., 0] * 0.5 + 0.1 * normal(1, 48, 4),
        "v": -sign + 0.1 * normal(2, 48, 4, 2),
    }
    spec = symmetry.parse(jax.tree.map(lambda x: x[0], params), AXES)
    return Population(params, {"label": label}, spec)


def trained(model, population, *, steps=60, condition=None, rate=3e-3):
    """The trained generator; its loss has become smaller."""
    found = fit(
        model,
        population,
        condition=condition,
        steps=steps,
        batch_size=32,
        optimiser=optax.adam(rate),
        key=jax.random.key(0),
        average=None,
        every=steps // 3,
    )
    losses = [row["loss"] for row in found.history]
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    return found.generator


def shaken(model):
    """The generator with all that is trained moved at random, so that nothing is zero any more."""
    arrays, rest = eqx.partition(model, model.trainable())
    leaves, treedef = jax.tree.flatten(arrays)
    moved = [a + 0.1 * normal(n, *a.shape) for n, a in enumerate(leaves)]
    return eqx.combine(jax.tree.unflatten(treedef, moved), rest)


@pytest.mark.slow
def test_p_diff_generates_chosen_leaves_and_keeps_the_others():
    params = {
        "conv": normal(0, 40, 3, 4),
        "bn": {"scale": 1 + 0.1 * normal(1, 40, 4), "running_var": jnp.exp(normal(2, 40, 4))},
    }
    model = p_diff(
        params,
        key=jax.random.key(1),
        leaves="bn/*",
        channels=(8,),
        steps=5,
        autoencoder={**SMALL, "size": 3},
    )
    drawn = trained(model, params).sample(jax.random.key(2), 6)
    np.testing.assert_array_equal(drawn["conv"], jnp.broadcast_to(params["conv"][0], (6, 3, 4)))
    assert drawn["bn"]["scale"].shape == (6, 4) and float(drawn["bn"]["running_var"].min()) >= 0
    assert float(jnp.std(drawn["bn"]["scale"], 0).min()) > 0


@pytest.mark.slow
def test_conditional_p_diff_draws_the_class_that_is_asked_for():
    population = zoo()
    model = conditional_p_diff(
        population,
        ClassCondition(2, 8, key=jax.random.key(0)),
        key=jax.random.key(1),
        channels=(16,),
        steps=10,
        autoencoder=SMALL,
    )
    model = trained(model, population, steps=240, condition="label")
    asked = jnp.arange(16) % 2
    drawn = model.sample(jax.random.key(2), 16, condition=asked, guidance=2.0)
    sides = jnp.sign(drawn["w"].mean((1, 2)))
    assert float(jnp.mean(sides == 2 * asked - 1)) > 0.9


@pytest.mark.slow
def test_lora_diffusion_sees_one_adapter_for_all_of_its_forms():
    base, x = normal(9, 5, 4), normal(8, 7, 5)
    adapters = {"down": normal(0, 20, 5, 2), "up": normal(1, 20, 2, 4)}

    def fn(p, x):
        return x @ (base + p["down"] @ p["up"])

    one = jax.tree.map(lambda a: a[3], adapters)
    spec = symmetry.infer(fn, one, x, kinds=("linear",))
    population = Population(adapters, {}, spec)
    model = lora_diffusion(
        population, key=jax.random.key(2), channels=(4,), steps=2, autoencoder=UNTRAINED
    )
    change = jnp.array([[2.0, 0.5], [-1.0, 1.0]])
    moved = {"down": one["down"] @ change, "up": jnp.linalg.inv(change) @ one["up"]}
    a, b = model.space.encode(one), model.space.encode(moved)
    np.testing.assert_allclose(a, b, atol=1e-2 * float(jnp.abs(a).max()))
    assert model.space.decode(a)["down"].shape == (5, 2)
    with pytest.raises(ValueError, match="linear"):
        lora_diffusion(adapters, key=jax.random.key(2))


@pytest.mark.slow
def test_hyper_diffusion_has_one_token_an_array():
    population = zoo()
    model = hyper_diffusion(
        population, key=jax.random.key(0), width=16, layers=1, normalise=False, steps=4
    )
    assert model.net.pieces.count == 3
    one = population[5]
    np.testing.assert_array_equal(model.space.encode(one)["w"], one["w"])  # not normalised
    drawn = trained(model, population, steps=150).sample(jax.random.key(1), 32)
    sides = drawn["w"].mean((1, 2))
    assert float(jnp.abs(sides).mean()) > 0.5  # near one of the two, and not between them


@functools.cache
def runs():
    """Runs that go the same way, each from a place of its own and with its units in an order of its own."""
    spec = zoo().spec
    way = {"w": jnp.ones((3, 4)), "b": jnp.zeros(4), "v": jnp.ones((4, 2))}
    steps = jnp.arange(6.0)

    def run(key):
        start = jax.tree.map(lambda a: jax.random.normal(key, a.shape), way)
        go = lambda k: jax.tree.map(lambda a, b: a + 0.2 * k * b, start, way)  # noqa: E731
        return jax.vmap(go)(steps)

    found = jax.vmap(run)(jax.random.split(jax.random.key(7), 16))
    params = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)
    columns = {
        "run": jnp.repeat(jnp.arange(16), 6),
        "step": jnp.tile(jnp.arange(6), 16),
        "loss": jnp.tile(1 - steps / 5, 16),
    }
    return Population(params, columns, spec)


def test_pairs_of_checkpoints_are_of_one_run_and_go_forward():
    population = runs().take(np.random.default_rng(0).permutation(96))
    pairs = updates(population, "loss", key=jax.random.key(0), n=400)
    run, step = (np.asarray(population.columns[c])[pairs.rows] for c in ("run", "step"))
    assert (run[:, 0] == run[:, 1]).all() and (step[:, 0] < step[:, 1]).all()
    assert len(np.unique(step[:, 1] - step[:, 0])) == 5 and len(np.unique(run)) == 16
    start = pairs.condition["start"]["w"]
    np.testing.assert_array_equal(start, population.params["w"][pairs.rows[:, 0]])
    with pytest.raises(ValueError, match="no column 'error'"):
        updates(population, "error", key=jax.random.key(0), n=4)
    with pytest.raises(ValueError, match="two checkpoints"):
        updates(runs().take(slice(0, 96, 6)), "loss", key=jax.random.key(0), n=4)


def test_g_pt_goes_as_far_as_it_is_asked_to():
    population = runs()
    pairs = updates(population, "loss", key=jax.random.key(0), n=600)
    model = g_pt(pairs, key=jax.random.key(1), width=32, layers=1, waves=2, told=16, steps=5)
    start = prompt(population.take(slice(0, 96, 6)).params, jnp.ones(16), 0.0)
    first = model.sample(jax.random.key(2), 16, condition=start, sampler=DDIM(1))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(start["start"])):
        np.testing.assert_allclose(a, b, atol=1e-4)  # untrained, it answers with the start
    model = trained(model, pairs.population, steps=300, condition=pairs.condition)
    gone = []
    for wanted in (0.8, 0.0):
        asked = {**start, "metric_wanted": jnp.full(16, wanted)}
        drawn = model.sample(jax.random.key(3), 16, condition=asked)
        gone.append(float((drawn["w"] - start["start"]["w"]).mean()))
    assert gone[0] == pytest.approx(0.2, abs=0.2) and gone[1] == pytest.approx(1.0, abs=0.3)


@pytest.mark.slow
def test_start_and_target_are_moved_together():
    pairs = updates(runs(), "loss", key=jax.random.key(0), n=8)
    options = {"key": jax.random.key(1), "width": 8, "layers": 1, "waves": 1, "told": 4}
    moved, still = (g_pt(pairs, moved=flag, **options) for flag in (True, False))
    assert moved.moved is not None and still.moved is None
    batch = moved.prepare(Batch(pairs.population.params, pairs.condition))
    # before training the answer is the start: its distance from the target is the same for both moved
    a, b = (eqx.filter_jit(m.loss)(batch, key=jax.random.key(2)) for m in (moved, still))
    assert float(a) == pytest.approx(float(b), rel=1e-5) and float(a) > 0
    one = Batch(*jax.tree.map(lambda x: x[0], (batch.params, batch.condition)))
    found = jax.vmap(moved._moved, (None, 0))(one, jax.random.split(jax.random.key(3), 9))
    assert float(jnp.std(found.params["w"], 0).max()) > 0.1  # and they are moved


@pytest.mark.slow
def test_g_pt_with_an_equivariant_denoiser():
    pairs = updates(runs(), "loss", key=jax.random.key(0), n=600)
    model = g_pt(
        pairs, key=jax.random.key(1), width=8, layers=1, method="universal", waves=2, told=8
    )
    assert model.moved is None
    model = trained(model, pairs.population, steps=150, condition=pairs.condition)
    spec, element = runs().spec, runs().spec.sample(jax.random.key(2))
    start = jax.tree.map(lambda a: a[0], pairs.condition["start"])
    noise = jax.tree.map(jnp.ones_like, start)
    level = jnp.float32(0.5)
    told = jnp.ones(16)
    a = model.net(spec.act(element, noise), level, told, (spec.act(element, start),))
    b = spec.act(element, model.net(noise, level, told, (start,)))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, atol=1e-5)
    with pytest.raises(ValueError, match="spec"):
        g_pt(
            pairs._replace(population=pairs.population.with_spec(None)),
            key=jax.random.key(0),
            method="nfn",
        )


def data_sets(labels, seed=0):
    """Examples whose mean tells the class."""
    centre = jnp.where(labels == 1, 2.0, -2.0)[:, None, None]
    return Examples(centre + normal(seed, len(labels), 6, 2))


@pytest.mark.slow
def test_d2nwg_draws_networks_for_a_data_set():
    population = zoo()
    labels = population.columns["label"]
    data = data_sets(labels)
    condition = SetCondition((2,), 8, channels=8, layers=1, points=2, key=jax.random.key(0))
    space = FlatSpace.fit(population)
    matched = match_conditions(
        condition,
        space,
        population,
        data,
        key=jax.random.key(1),
        steps=60,
        batch_size=2,  # mostly of two classes
        optimiser=optax.adam(1e-2),
    )
    assert matched.history[-1]["found"] > 0.65 and matched.history[-1]["loss"] < 0.7
    model = d2nwg(
        population,
        matched.conditioner,
        key=jax.random.key(2),
        space=space,
        channels=(16,),
        steps=10,
    )
    model = trained(model, population, steps=240, condition=data)
    asked = jnp.arange(16) % 2
    new = data_sets(asked, 5)
    drawn = model.sample(jax.random.key(3), 16, condition=new)
    assert float(jnp.mean(jnp.sign(drawn["w"].mean((1, 2))) == 2 * asked - 1)) > 0.9
    turned = Examples(new.inputs[:, ::-1])
    again = model.sample(jax.random.key(3), 16, condition=turned)
    np.testing.assert_allclose(again["w"], drawn["w"], atol=1e-3)  # a set has no order
    with pytest.raises(ValueError, match="not both"):
        d2nwg(population, condition, key=jax.random.key(0), space=space, autoencoder={"size": 3})


def test_matching_needs_a_vector():
    with pytest.raises(ValueError, match="no vector"):
        match_conditions(
            NetworkCondition(),
            FlatSpace.fit(zoo()),
            zoo(),
            zoo().params,
            key=jax.random.key(0),
            steps=1,
            batch_size=2,
            optimiser=optax.sgd(0.1),
        )


def test_an_ensemble_of_samples_answers_as_its_members_do_on_average():
    model, x = LeafGaussian(zoo()), normal(3, 5, 3)
    some = draw_ensemble(model, jax.random.key(1), 7, apply)
    scores = jnp.stack([apply(jax.tree.map(lambda a, i=i: a[i], some.params), x) for i in range(7)])
    np.testing.assert_allclose(some(x), jax.nn.softmax(scores).mean(0), atol=1e-5)
    votes = Ensemble(some.params, apply, "votes")(x)
    first = np.stack([(scores.argmax(-1) == c).mean(0) for c in range(2)], -1)
    np.testing.assert_allclose(votes, first, atol=1e-6)
    outputs = Ensemble(some.params, apply, "outputs")(x)
    np.testing.assert_allclose(outputs, scores.mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="mean"):
        Ensemble(some.params, apply, "mean")


@pytest.mark.slow
def test_bend_draws_an_ensemble_of_whole_networks():
    population, x = zoo(), normal(3, 5, 3)
    model = bend(population, key=jax.random.key(0), channels=(8,), steps=5, autoencoder=SMALL)
    some = draw_ensemble(trained(model, population), jax.random.key(1), 7, apply)
    np.testing.assert_allclose(some(x).sum(-1), 1, atol=1e-5)
    assert float(jnp.std(some.params["w"], 0).min()) > 0


@pytest.mark.slow
def test_gpd_gives_a_smaller_architecture_where_its_graph_is_told():
    population = zoo()
    one = population[0]
    graphs = []
    for width in (2, 4):
        small = {"w": one["w"][:, :width], "b": one["b"][:width], "v": one["v"][:width]}
        graphs.append(architecture_graph(symmetry.parse(small, AXES), 3))
    there = jnp.where(population.columns["label"][:, None] == 1, 1.0, jnp.arange(4) < 2)
    p = population.params
    padded = {
        "w": jnp.abs(p["w"]) * there[:, None],
        "b": jnp.abs(p["b"]) * there,
        "v": jnp.abs(p["v"]) * there[..., None],
    }

    def told(labels):
        rows = [[graph[n] for graph in graphs] for n in range(3)]
        return Graph(*(jnp.asarray(np.stack(row))[labels] for row in rows))

    model = gpd(padded, key=jax.random.key(0), size=8, width=16, layers=1, pieces=8, steps=10)
    labels = population.columns["label"]
    model = trained(model, padded, steps=300, condition=told(labels))
    asked = jnp.arange(16) % 2
    drawn = model.sample(jax.random.key(1), 16, condition=told(asked))
    last = jnp.abs(drawn["w"][:, :, 2:]).mean((1, 2))
    assert float(last[asked == 0].mean()) < 0.35 < 0.65 < float(last[asked == 1].mean())


@pytest.mark.slow
def test_recurrent_states_are_the_same_at_once_and_one_by_one():
    model = shaken(rpg(zoo(), key=jax.random.key(0), channels=8, layers=2, denoiser=4, blocks=1))
    tokens = model.space.encode(zoo()[0])
    remembered, step = eqx.filter_jit(model.memory), eqx.filter_jit(model.memory.step)
    known = remembered(tokens)
    places = model.memory.places(None, tokens.dtype)
    states, before = jnp.zeros((2, 8)), jnp.zeros(tokens.shape[1])
    for k, token in enumerate(tokens):
        states, x = step(states, before, places[k])
        np.testing.assert_allclose(x, known[k], atol=1e-4)
        before = token
    changed = remembered(tokens.at[3].add(1.0))
    np.testing.assert_array_equal(changed[:4], known[:4])  # nothing is known of what comes later
    assert float(jnp.abs(changed[4:] - known[4:]).max()) > 1e-3


@pytest.mark.slow
def test_rpg_draws_tokens_that_belong_together():
    # independent tokens, as from positions alone, would agree in sign in 1 of 8 networks
    sign = jnp.where(jnp.arange(64) % 2, 1.0, -1.0)[:, None, None]
    stack = {"w": sign * 1.0 + 0.1 * normal(0, 64, 3, 4)}
    model = rpg(
        stack, key=jax.random.key(0), channels=16, layers=1, denoiser=32, blocks=1, steps=20
    )
    model = trained(model, stack, steps=400, rate=5e-3)
    drawn = model.sample(jax.random.key(1), 64)["w"]
    sides = jnp.sign(drawn.mean(1))
    assert float(jnp.mean(jnp.abs(sides.mean(1)) == 1)) > 0.8
    assert 0.15 < float(jnp.mean(sides[:, 0] == 1)) < 0.85


@pytest.mark.slow
def test_rpg_hears_its_condition_by_guidance():
    population = zoo()
    condition = VectorCondition(1, 8, key=jax.random.key(0))
    with pytest.raises(ValueError, match="beside"):
        rpg(population, key=jax.random.key(0), conditioner=NetworkCondition())
    model = rpg(
        population, key=jax.random.key(1), channels=8, layers=1, denoiser=8, blocks=1, steps=3,
        conditioner=Dropped(condition, key=jax.random.key(2)),
    )  # fmt: skip
    model = shaken(model)
    draw = lambda c, g: model.sample(  # noqa: E731
        jax.random.key(3), 2, condition=jnp.full(2, c), guidance=g
    )["w"]
    np.testing.assert_array_equal(draw(0.0, 0.0), draw(5.0, 0.0))
    assert float(jnp.abs(draw(0.0, 2.0) - draw(5.0, 2.0)).max()) > 1e-3
    with pytest.raises(ValueError, match="token by token"):
        model.draw(jax.random.key(0), task=lambda p: 0.0)


def test_latents_are_refused_a_pattern_that_nothing_matches():
    with pytest.raises(ValueError, match="no floating leaf matches"):
        flat_latents(zoo(), key=jax.random.key(0), leaves="norm/*")
