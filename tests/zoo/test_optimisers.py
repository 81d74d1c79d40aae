"""The branch-free update against optax, and against the published formulas where optax differs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsljax.zoo.training.optimisers import (
    OPTIMISERS,
    Rule,
    init_optimiser,
    optimiser_rules,
    update_optimiser,
)

RATE, DECAY, EPSILON = 0.05, 0.1, 1e-8


def adagrad():
    """Duchi 2011: accumulator from zero, epsilon outside the root (optax starts it at 0.1)."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(grads, total, params=None):
        total = jax.tree.map(lambda s, g: s + g**2, total, grads)
        return jax.tree.map(lambda g, s: -RATE * g / (jnp.sqrt(s) + EPSILON), grads, total), total

    return optax.GradientTransformation(init, update)


def sign_descent():
    """Bernstein 2018, algorithm 2 (Signum): the sign of a moving average."""
    return optax.chain(optax.ema(0.9, debias=False), optax.scale_by_sign(), optax.scale(-RATE))


REFERENCES = {
    "sgd": lambda: optax.sgd(RATE),
    "momentum": lambda: optax.sgd(RATE, momentum=0.9),
    "nesterov": lambda: optax.sgd(RATE, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optax.rmsprop(RATE, decay=0.9, eps=EPSILON, eps_in_sqrt=False),
    "adagrad": adagrad,
    "adam": lambda: optax.adam(RATE, eps=EPSILON),
    "adamw": lambda: optax.adamw(RATE, eps=EPSILON, weight_decay=DECAY),
    "sign": sign_descent,
    "lion": lambda: optax.lion(RATE, weight_decay=DECAY),
}


def one_rule(name):
    make, momentum, square_decay = OPTIMISERS[name]
    return Rule(*(jnp.float64(value) for value in make(momentum, square_decay)))


def gradient(params, target):
    return jax.grad(lambda p: sum(jnp.sum(jnp.cos(p[n] - target[n])) for n in p))(params)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_ten_steps_agree_with_the_reference(name, decay, key):
    params = {"a": jax.random.normal(key, (3, 2)), "b": jnp.ones(4)}
    target = jax.tree.map(lambda p: 2 * p + 0.3, params)
    if name in ("adamw", "lion"):
        decay = DECAY  # which the reference has built in
        reference = REFERENCES[name]()
    else:  # L2: the decay is part of the gradient
        reference = optax.chain(optax.add_decayed_weights(decay), REFERENCES[name]())
    settings = {"learning_rate": RATE, "weight_decay": decay, "epsilon": EPSILON}
    rule = one_rule(name)
    ours, state = params, init_optimiser(params)
    theirs, their_state = params, reference.init(params)
    for step in range(10):
        ours, state = update_optimiser(
            ours, state, gradient(ours, target), rule, settings, jnp.float64(step + 1)
        )
        updates, their_state = reference.update(gradient(theirs, target), their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        for leaf in params:
            np.testing.assert_allclose(ours[leaf], theirs[leaf], rtol=1e-9)
    assert not np.allclose(ours["a"], params["a"])


def test_rules_of_a_population_are_those_of_its_networks():
    rules = optimiser_rules(list(OPTIMISERS))
    for index, name in enumerate(OPTIMISERS):
        for column, value in zip(rules, one_rule(name)):
            np.testing.assert_allclose(column[index], value, rtol=1e-7)


def test_momentum_and_second_decay_can_differ_by_network():
    rules = optimiser_rules(["momentum", "adam"], momentum=[0.5, 0.8], square_decay=[0.0, 0.95])
    np.testing.assert_allclose(rules.memory_decay, [0.5, 0.8])
    np.testing.assert_allclose(rules.square_decay, [0.0, 0.95])
    np.testing.assert_allclose(rules.memory_gain, [1.0, 0.2], rtol=1e-6)


def test_parameters_keep_their_dtype_and_moments_are_wide():
    params = {"a": jnp.ones(3, jnp.bfloat16)}
    state = init_optimiser(params)
    settings = {name: jnp.float32(0.1) for name in ("learning_rate", "weight_decay", "epsilon")}
    rule = Rule(*(jnp.float32(value) for value in one_rule("adam")))
    new, state = update_optimiser(params, state, params, rule, settings, jnp.float32(1))
    assert new["a"].dtype == jnp.bfloat16
    assert state.memory["a"].dtype == state.square["a"].dtype == jnp.float32


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="unknown optimiser 'adamm'; there are .*'adam'"):
        optimiser_rules(["sgd", "adamm"])
