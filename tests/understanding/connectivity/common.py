"""Small networks on the digits, trained in a moment: what the laws are tried on."""

import functools

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits


@functools.cache
def digits():
    """Images in [0, 1] and labels, 1792 of them."""
    data = load_digits()
    return jnp.asarray(data.data[:1792] / 16, "float32"), jnp.asarray(data.target[:1792], "int32")


def mlp(p, x):
    for w, b in p[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ p[-1][0] + p[-1][1]


def mlp_init(key, sizes=(64, 16, 16, 10)):
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n), "float32") * (2 / m) ** 0.5, jnp.zeros(n, "float32"))
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def measures(p, x, y, fn=mlp):
    out = fn(p, x)
    loss = optax.softmax_cross_entropy_with_integer_labels(out, y).mean()
    return {"loss": loss, "accuracy": jnp.mean(jnp.argmax(out, -1) == y, dtype=out.dtype)}


def loss(p, x, y):
    return measures(p, x, y)["loss"]


@functools.cache
def trained(count=2, steps=150):
    """Networks of one architecture, trained from other seeds; stacked."""
    x, y = digits()
    tx = optax.adam(3e-3)

    def train(key):
        p = mlp_init(key)

        def step(state, key):
            p, opt = state
            rows = jax.random.randint(key, (128,), 0, len(x))
            updates, opt = tx.update(jax.grad(loss)(p, x[rows], y[rows]), opt)
            return (optax.apply_updates(p, updates), opt), None

        return jax.lax.scan(step, (p, tx.init(p)), jax.random.split(key, steps))[0][0]

    with jax.enable_x64(False):
        return jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), count))


def member(stacked, k):
    return jax.tree.map(lambda x: x[k], stacked)
