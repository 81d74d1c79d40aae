"""The action that holds on one batch: exact there, no symmetry elsewhere, refused where it cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.understanding.teleportation import batch_action, teleport, teleport_on_batch


def logit(a):
    return jnp.log(a) - jnp.log1p(-a)


def leaky(x):
    return jnp.where(x > 0, x, 0.1 * x)


def leaky_inverse(x):
    return jnp.where(x > 0, x, 10 * x)


ACTIVATIONS = {
    "sigmoid": (jax.nn.sigmoid, logit),
    "tanh": (jnp.tanh, jnp.arctanh),
    "leaky": (leaky, leaky_inverse),
}


def network(activation, biases, dtype="float64", samples=4):
    keys = iter(jax.random.split(jax.random.key(0), 8))
    sizes = (5, 6, 7, 3)
    p = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        w = jax.random.normal(next(keys), (a, b), dtype) / a**0.5
        p.append((w, 0.3 * jax.random.normal(next(keys), (b,), dtype)) if biases else (w,))
    x = 0.5 * jax.random.normal(next(keys), (samples, 5), dtype)

    def fn(p, x):
        for layer in p[:-1]:
            x = activation(x @ layer[0] + (layer[1] if biases else 0))
        return x @ p[-1][0] + (p[-1][1] if biases else 0)

    return fn, p, x


def small(zero, scale):
    keys = jax.random.split(jax.random.key(4), len(zero))
    return [scale * jax.random.normal(k, z.shape, z.dtype) for k, z in zip(keys, zero)]


@pytest.mark.parametrize("form", ["2022", "2024"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_exact_on_the_batch_and_nowhere_else(name, form):
    activation, inverse = ACTIVATIONS[name]
    options = {"activation": activation, "inverse": inverse, "form": form}
    biases = name != "leaky"
    fn, p, x = network(activation, biases)
    fresh = jax.random.normal(jax.random.key(9), (20, 5), "float64")
    scale = jnp.max(jnp.abs(fn(p, x)))
    v = small(batch_action(p, x, **options).zero, 0.02)

    @jax.jit
    def moves(p, x):
        out = {}
        for keep in (True, False):
            action = batch_action(p, x, **options, keep_rest=keep)
            new = action.act(v, p)
            back = action.act(jax.tree.map(jnp.negative, v), new)
            out[keep] = new, back, action.act(action.zero, p)
        return out

    for keep, (new, back, neutral) in moves(p, x).items():
        assert jnp.max(jnp.abs(fn(new, x) - fn(p, x))) < 1e-10 * scale
        assert jnp.max(jnp.abs(fn(back, x) - fn(p, x))) < 1e-9 * scale
        assert jnp.max(jnp.abs(fn(new, fresh) - fn(p, fresh))) > 1e-4 * scale
        assert not np.allclose(new[0][0], p[0][0], rtol=1e-4)
        assert jax.tree.structure(new) == jax.tree.structure(p)
        for a, b in zip(new, p):
            assert len(a) == 1 or np.array_equal(a[1], b[1])
        same = [np.allclose(a[0], b[0], atol=1e-10) for a, b in zip(neutral, p)]
        assert all(same) == keep


def test_the_published_shortcuts_are_not_exact():
    """Control: with ``g^-1`` taken as ``I - T``, or old activations, the outputs move."""
    fn, p, x = network(leaky, False)
    t = [
        0.05 * jax.random.normal(jax.random.key(k), (n, n), "float64") for k, n in ((1, 6), (2, 7))
    ]
    kernels, h = [w for (w,) in p], x
    for i in range(2):  # each layer's activations those of the network before it was moved
        eye = jnp.eye(len(t[i]))
        target = leaky(h @ kernels[i]) @ (eye + t[i])
        h_next = leaky(h @ p[i][0])
        kernels[i] = jnp.linalg.pinv(h) @ leaky_inverse(target)
        kernels[i + 1] = (eye - t[i]) @ kernels[i + 1]
        h = h_next
    change = jnp.max(jnp.abs(fn([(w,) for w in kernels], x) - fn(p, x)))
    assert change > 1e-3 * jnp.max(jnp.abs(fn(p, x)))


@pytest.mark.parametrize("form", ["2022", "2024"])
def test_teleport_on_batch_in_float32(form):
    fn, p, x = network(jax.nn.sigmoid, True, "float32")
    y = jax.random.normal(jax.random.key(3), (4, 3), "float32")

    def loss(p, x, y):
        return jnp.sum((fn(p, x) - y) ** 2)

    out = teleport_on_batch(
        loss, p, x, y, activation=jax.nn.sigmoid, inverse=logit, form=form, steps=4
    )
    assert out.report.objective_after > 1.1 * out.report.objective_before
    assert out.report.loss_change <= 1e-5
    wide = jax.tree.map(lambda a: a.astype("float64"), (p, out.params, x, y))
    before, after = loss(wide[0], *wide[2:]), loss(wide[1], *wide[2:])
    assert abs(after - before) < 1.5e-5 * before
    # as a group that is made anew for each batch
    group = lambda p, x, y: batch_action(  # noqa: E731
        p, x, activation=jax.nn.sigmoid, inverse=logit, form=form
    )
    again = jax.jit(lambda p: teleport(loss, p, group, x, y, steps=4))(p)
    assert np.allclose(again.params[0][0], out.params[0][0], rtol=1e-3, atol=1e-4)


def test_refused_where_it_cannot_be_exact():
    fn, p, x = network(jnp.tanh, False, samples=6)
    options = {"activation": jnp.tanh, "inverse": jnp.arctanh}
    with pytest.raises(ValueError, match="6 samples, but 5 coordinates enter layer 0.*at most 5"):
        batch_action(p, x, **options)
    batch_action(p, x, activation=jnp.tanh, form="2024")  # here the hidden widths count: 6 and 7
    with pytest.raises(ValueError, match="8 samples, but 6 coordinates enter layer 1"):
        batch_action(p, jnp.ones((8, 5)), activation=jnp.tanh, form="2024")
    with pytest.raises(ValueError, match="linearly dependent.*layer 0"):
        batch_action(p, jnp.stack([x[0], x[1], x[0]]), **options)
    with pytest.raises(ValueError, match="needs the inverse"):
        batch_action(p, x[:4], activation=jnp.tanh)
    with pytest.raises(ValueError, match="`form`"):
        batch_action(p, x[:4], **options, form="2023")
    with pytest.raises(ValueError, match="after one of"):
        batch_action([p[0], p[2]], x[:4], **options)
    with pytest.raises(ValueError, match="at least two layers"):
        batch_action({"w": p[0][0]}, x[:4], **options)
    with pytest.raises(ValueError, match="batch of shape"):
        batch_action(p, x[:4, :3], **options)


def test_out_of_range_steps_are_turned_down():
    """A step after which a sigmoid would have to exceed one is no number, and is halved until it is."""
    fn, p, x = network(jax.nn.sigmoid, False)
    p = [(10 * p[0][0],), *p[1:]]
    loss = lambda p, x: jnp.sum(fn(p, x) ** 2)  # noqa: E731
    out = teleport_on_batch(
        loss, p, x, activation=jax.nn.sigmoid, inverse=logit, radius=3.0, steps=3, halvings=20
    )
    assert all(bool(jnp.all(jnp.isfinite(w))) for w in jax.tree.leaves(out.params))
    assert out.report.objective_after > out.report.objective_before
    assert out.report.loss_change <= 1e-10
