"""The recorded figures of the original, and that our problems are the ones it was run on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _teleport_problems as problems


def test_plain_training_from_the_recorded_starts_gives_the_recorded_losses():
    recorded = problems.reference()
    assert len(recorded["commit"]) == 40 and recorded["repository"].startswith("https://")
    loss = problems.regression(problems.leaky)

    @jax.jit
    def train(p, x, y):
        def step(p, _):
            value, gradient = jax.value_and_grad(loss)(p, x, y)
            return optax.apply_updates(p, jax.tree.map(lambda g: -1e-4 * g, gradient)), value

        return jax.lax.scan(step, p, length=300)[1]

    runs = recorded["mlp"]["runs"]
    for start, row in zip(recorded["mlp"]["starts"], runs["sgd plain"], strict=True):
        p = [jnp.asarray(w) for w in start["weights"]]
        losses = train(p, jnp.asarray(start["x"]), jnp.asarray(start["y"]))
        assert np.allclose(losses[:-1:10], row["losses"][:-1], rtol=2e-3)
        assert np.isclose(losses[-1], row["final"], rtol=2e-3)
    jumps = [r["teleport"] for k in ("sgd", "adagrad") for r in runs[f"{k} teleport"]]
    assert all(j["loss_after"] < 0.7 * j["loss_before"] for j in jumps)


def test_rotations_of_the_test_functions_leave_them_alone():
    for make in (problems.rosenbrock, problems.booth):
        f = make()
        p = jnp.array([0.3, -1.7])
        moved = f.action.act(1.1, p)
        assert not np.allclose(moved, p) and np.isclose(f.loss(moved), f.loss(p), rtol=1e-12)
        assert np.allclose(f.action.act(-1.1, moved), p)
    x, y = 0.3, -1.7
    assert np.isclose(problems.rosenbrock().loss(p), 100 * (x**2 - y) ** 2 + (x - 1) ** 2)
    assert np.isclose(problems.booth().loss(p), (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2)
