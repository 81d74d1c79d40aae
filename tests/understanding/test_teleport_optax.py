"""Optimiser state goes along with the params: rules against what they are derived from."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.symmetry import generator_nets as nets
from wsljax import symmetry
from wsljax.understanding.teleportation import (
    Action,
    by_element,
    carry_state,
    gradient_norm,
    register_roles,
    teleport,
    teleporting,
)


def close(a, b, rtol=1e-9, atol=1e-11):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.allclose(x, y, rtol=rtol, atol=atol)


@functools.cache
def problem(name):
    make, kinds = NETS[name]
    fn, p, x = make()
    spec = symmetry.infer(fn, p, x, kinds=kinds)
    y = jax.random.normal(jax.random.key(5), fn(p, x).shape, "float64")
    return lambda p, x, y: jnp.mean((fn(p, x) - y) ** 2), p, x, y, spec


def make_step(tx, loss, x, y):
    def step(p, state):
        updates, state = tx.update(jax.grad(loss)(p, x, y), state, p)
        return optax.apply_updates(p, updates), state

    return step


NETS = {
    "radial": (nets.radial, ("permutation", "orthogonal")),
    "tanh": (lambda: nets.mlp(jnp.tanh), ("permutation", "sign")),
    "leaky": (lambda: nets.mlp(nets.leaky), ("permutation", "scale")),
    "attention": (lambda: nets.attention(True), ("linear", "shift")),
    "transformer": (nets.transformer, ("orthogonal", "scale", "linear")),
}
LINEAR = {
    "momentum": lambda: optax.sgd(0.03, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.03, momentum=0.9, nesterov=True),
    "optimistic": lambda: optax.optimistic_gradient_descent(0.03),
}
OPTIMISERS = LINEAR | {
    "adamw": lambda: optax.adamw(0.03),
    "amsgrad": lambda: optax.amsgrad(0.03),
    "adabelief": lambda: optax.adabelief(0.03),
    "adan": lambda: optax.adan(0.03),
    "adadelta": lambda: optax.adadelta(0.03),
    "adagrad": lambda: optax.adagrad(0.03),
    "rmsprop": lambda: optax.rmsprop(0.03),
    "lion": lambda: optax.lion(0.03),
    "rprop": lambda: optax.rprop(0.03),
    "several steps": lambda: optax.MultiSteps(optax.adam(0.03), 2),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.03),
    "chain": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.ema(0.9), optax.scale_by_adam(), optax.scale(-0.1)
    ),
    "parts": lambda: optax.multi_transform(
        {"a": optax.adam(0.03), "b": optax.sgd(0.03, momentum=0.9)},
        lambda p: {k: "a" if k[0] == "w" else "b" for k in p},
    ),
}


SLOW = {"nesterov", "optimistic", "amsgrad", "adabelief", "adadelta", "rmsprop", "several steps"}


def cases():
    for net, optimisers in (("radial", LINEAR), ("tanh", OPTIMISERS)):
        for name in optimisers:
            yield pytest.param(net, name, marks=[pytest.mark.slow] * (name in SLOW))


@pytest.mark.parametrize("net, optimiser", list(cases()))
def test_a_step_from_the_moved_state_is_the_moved_step(net, optimiser):
    """Under what an optimiser is equivariant to: rotations for those linear in gradients, signed
    permutations for all."""
    loss, p, x, y, spec = problem(net)
    assert {gen.kind for gen in spec.generators} == {"orthogonal" if net == "radial" else "sign"}
    tx = OPTIMISERS[optimiser]()
    step = make_step(tx, loss, x, y)

    @jax.jit
    def both(p, g):
        carry = lambda state, p: carry_state(state, p, spec, g, probes=1)  # noqa: E731
        (p, state), _ = jax.lax.scan(lambda c, _: (step(*c), None), (p, tx.init(p)), length=3)
        one, two = step(p, state), step(spec.act(g, p), carry(state, p))
        return spec.act(g, one[0]), carry(one[1], p), two[0], two[1]

    with jax.numpy_dtype_promotion("standard"):
        p1, s1, p2, s2 = both(p, spec.sample(jax.random.key(7)))
    close(p1, p2)
    close(s1, s2)
    assert not np.allclose(p1["w0"], p["w0"])


@pytest.mark.parametrize("optimiser", ["adagrad", "adam", "rmsprop", "amsgrad"])
def test_scalings_carry_accumulators_exactly(optimiser):
    """AdaGrad's sums and Adam's moments are those of the moved gradients."""
    loss, p, x, y, spec = problem("leaky")
    tx = getattr(optax, optimiser)(0.1)

    @jax.jit
    def both(g):
        move = by_element(spec, g, p)
        state = tx.init(p)
        moved = carry_state(state, p, spec, g)  # AdaGrad's sums do not begin at zero
        for i in range(3):
            gradient = jax.grad(loss)(jax.tree.map(lambda a, i=i: a + 0.1 * i, p), x, y)
            _, state = tx.update(gradient, state, p)
            _, moved = tx.update(move.covector(gradient), moved, p)
        return carry_state(state, p, spec, g), moved

    with jax.numpy_dtype_promotion("standard"):
        close(*both(spec.sample(jax.random.key(7))))


@pytest.mark.parametrize("name", ["attention", pytest.param("transformer", marks=pytest.mark.slow)])
def test_through_gains_and_carries(name):
    """First moments where the action is not linear: momentum of gradients at the point itself."""
    loss, p, x, y, spec = problem(name)
    tx = optax.trace(0.9)
    gradient = jax.grad(loss)(p, x, y)
    _, state = tx.update(gradient, tx.update(gradient, tx.init(p))[1])
    g = spec.sample(jax.random.key(1))
    there = jax.grad(loss)(spec.act(g, p), x, y)
    wanted = jax.tree.map(lambda a: 1.9 * a, there)
    close(carry_state(state, p, spec, g).trace, wanted, rtol=1e-8, atol=1e-9)


def test_lbfgs_goes_along_with_any_linear_move():
    """Differences of params are vectors, those of gradients covectors, their products do not change."""
    loss, p, x, y, spec = problem("leaky")
    tx = optax.scale_by_lbfgs(memory_size=4, scale_init_precond=False)
    step = jax.jit(make_step(optax.chain(tx, optax.scale(-0.05)), loss, x, y))
    p1, state = step(*step(*step(p, optax.chain(tx, optax.scale(-0.05)).init(p))))
    state = state[0]
    g = spec.sample(jax.random.key(7))
    moved = jax.jit(lambda s, g: carry_state(s, p1, spec, g))(state, g)
    pair = lambda s: sum(  # noqa: E731
        jnp.sum(a * b, tuple(range(1, a.ndim)))
        for a, b in zip(
            jax.tree.leaves(s.diff_params_memory),
            jax.tree.leaves(s.diff_updates_memory),
            strict=True,
        )
    )
    assert np.any(np.abs(pair(state)) > 1e-6)
    close(pair(moved), pair(state))
    close(moved.params, spec.act(g, state.params))


def test_squares_are_the_squared_jacobian():
    loss, p, x, y, spec = problem("radial")
    g = spec.sample(jax.random.key(7))
    nu = jax.tree.map(lambda a: a**2, jax.grad(loss)(p, x, y))
    state = optax.ScaleByRmsState(nu)
    got = carry_state(state, p, spec, g, probes=20_000).nu
    flat, rebuild = jax.flatten_util.ravel_pytree(p)
    inverse = spec.inverse(g)
    there = jax.flatten_util.ravel_pytree(spec.act(g, p))[0]
    back = lambda f: jax.flatten_util.ravel_pytree(spec.act(inverse, rebuild(f)))[0]  # noqa: E731
    jacobian = jax.jacobian(back)(there)
    wanted = jnp.square(jacobian).T @ jax.flatten_util.ravel_pytree(nu)[0]
    assert np.allclose(jax.flatten_util.ravel_pytree(got)[0], wanted, rtol=0.1, atol=1e-9)
    close(carry_state(state, p, spec, g, second="keep").nu, nu)


def test_adamax_by_role():
    loss, p, x, y, spec = problem("leaky")
    tx = optax.adamax(0.03)
    _, state = jax.jit(make_step(tx, loss, x, y))(p, tx.init(p))
    g = spec.sample(jax.random.key(7))
    moved = carry_state(state, p, spec, g, roles={"nu": "magnitude"})
    close(moved[0].nu, jax.tree.map(lambda m: 10 * jnp.abs(m), moved[0].mu), atol=1e-7)


def test_states_of_users():
    class Unheard(NamedTuple):
        velocity: dict

    loss, p, x, y, spec = problem("leaky")
    g = spec.sample(jax.random.key(0))
    gradient = jax.grad(loss)(p, x, y)
    with pytest.raises(ValueError, match=r"Unheard.velocity.*register_roles"):
        carry_state(Unheard(gradient), p, spec, g)
    close(carry_state(Unheard(gradient), p, spec, g, roles={"velocity": "keep"}).velocity, gradient)
    register_roles(Unheard, velocity="first")
    move = by_element(spec, g, p)
    close(carry_state((Unheard(gradient),), p, spec, g)[0].velocity, move.covector(gradient))
    with pytest.raises(ValueError, match="unknown role"):
        register_roles(Unheard, velocity="third")
    with pytest.raises(ValueError, match="ScaleByNovogradState.nu"):
        carry_state(optax.novograd(0.1).init(p), p, spec, g)
    with pytest.raises(ValueError, match="`second`"):
        carry_state(Unheard(gradient), p, spec, g, second="forget")


@pytest.mark.parametrize("make", [lambda: optax.sgd(0.01, momentum=0.9), lambda: optax.adam(0.01)])
def test_teleporting_is_teleport_then_a_step(make):
    loss, p, x, y, spec = problem("leaky")
    inner = make()
    tx = teleporting(inner, loss, spec, every=2, steps=3)

    @jax.jit
    def step(p, state):
        updates, state = tx.update(jax.grad(loss)(p, x, y), state, p, inputs=(x, y))
        return optax.apply_updates(p, updates), state

    q, state = p, tx.init(p)
    for _ in range(3):
        q, state = step(q, state)
    assert state.report.accepted == 3 and state.report.loss_change < 1e-10

    r, s = p, inner.init(p)
    for i in range(3):
        if i == 2:
            new, element, _, _ = teleport(loss, r, spec, x, y, steps=3)
            s = carry_state(s, r, spec, element, key=jax.random.fold_in(jax.random.key(0), 2))
            r = new
        updates, s = inner.update(jax.grad(loss)(r, x, y), s, r)
        r = optax.apply_updates(r, updates)
    close(q, r, rtol=1e-7, atol=1e-8)
    close(state.inner, s, rtol=1e-7, atol=1e-8)


def test_teleporting_in_float32_scanned_in_a_chain():
    loss, p, x, y, spec = problem("leaky")
    p, x, y = jax.tree.map(lambda a: a.astype("float32"), (p, x, y))
    tx = optax.chain(
        optax.clip_by_global_norm(5.0),
        teleporting(optax.adam(1e-3), loss, spec, at=(2, 5), steps=4, radius=0.2),
    )

    def step(carry, _):
        p, state = carry
        value, gradient = jax.value_and_grad(loss)(p, x, y)
        updates, state = tx.update(gradient, state, p, inputs=(x, y))
        return (optax.apply_updates(p, updates), state), (value, state[1].report)

    (_, state), (values, reports) = jax.jit(
        lambda p: jax.lax.scan(step, (p, tx.init(p)), length=8)
    )(p)
    assert list(reports.accepted) == [0, 0, 4, 4, 4, 4, 4, 4]
    assert len({float(v) for v in reports.objective_before}) == 3
    assert np.all(reports.loss_change <= 1e-5)
    assert np.all(np.diff(values) < 0)  # the jump is not seen in the loss
    assert state[1].inner[0].count == 8


def test_restart_and_user_action():
    loss = lambda p: 0.5 * jnp.sum(jnp.array([1.0, 4.0]) * p**2)  # noqa: E731

    def turn(v, p):
        a, b = p[0], 2 * p[1]
        return jnp.stack([a * jnp.cos(v) - b * jnp.sin(v), (a * jnp.sin(v) + b * jnp.cos(v)) / 2])

    p = jnp.array([1.0, 0.5])
    action = Action(turn, jnp.zeros(()))
    inner = optax.sgd(0.01, momentum=0.9)
    for second in ("squares", "restart"):
        tx = teleporting(inner, loss, action, at=(1,), second=second)
        state = tx.init(p)
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        p1 = optax.apply_updates(p, updates)
        updates, state = tx.update(jax.grad(loss)(p1), state, p1)
        out = teleport(loss, p1, action)
        assert gradient_norm(loss)(out.params) > gradient_norm(loss)(p1)
        at = lambda q: jax.grad(loss)(q)  # noqa: E731
        momentum = at(out.params)
        if second == "squares":  # the old gradient, by the transposed inverse of the Jacobian
            jacobian = jax.jacobian(turn, 1)(jnp.sum(out.path), p1)
            momentum = momentum + 0.9 * jnp.linalg.solve(jacobian.T, at(p))
        close(state.inner[0].trace, momentum)
        close(p1 + updates, out.params - 0.01 * momentum)


def test_clear_errors():
    loss, p, x, y, spec = problem("leaky")
    with pytest.raises(ValueError, match="when to teleport"):
        teleporting(optax.sgd(0.1), loss, spec)
    with pytest.raises(ValueError, match="`every`"):
        teleporting(optax.sgd(0.1), loss, spec, every=0)
    with pytest.raises(ValueError, match="`second`"):
        teleporting(optax.sgd(0.1), loss, spec, every=1, second="drop")
    with pytest.raises(ValueError, match=r"unknown options \['size'\]"):
        teleporting(optax.sgd(0.1), loss, spec, every=1, size=3)
    tx = teleporting(optax.sgd(0.1), loss, spec, every=1)
    with pytest.raises(ValueError, match="params"):
        tx.update(p, tx.init(p))
