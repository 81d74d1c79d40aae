"""Branches, loops that end by themselves, and functions with derivatives of their own."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from .raw_conv import NHWC
from .raw_draw import affine, data, draw
from .registry import case


def _each(one):
    """Runs ``one(params, x)`` on rows in a Python loop, so that branches stay branches."""
    return lambda p, x: jnp.stack([one(p, row) for row in x])


@case("raw/cond", group=((6, 1), (5, 1), (4, 1)))
def cond(key):
    # S_6 hidden, read by both branches; S_5 and S_4 inside them.
    def one(p, x):
        h = jnp.tanh(x @ p["in"])

        def yes(h):
            return jnp.tanh(h @ p["yes"][0]) @ p["yes"][1]

        def no(h):
            return jnp.sin(h @ p["no"][0]) @ p["no"][1]

        return lax.cond(x[0] > 0, yes, no, h)

    shapes = {"in": (3, 6), "yes": [(6, 5), (5, 2)], "no": [(6, 4), (4, 2)]}
    return _each(one), draw(key, shapes), data(key, (8, 3))


@case("raw/cond_hidden_result", group=((5, 1),))
def cond_hidden_result(key):
    # S_5: one branch passes the units on, the other transforms them; a hidden sum decides.
    def one(p, x):
        h = jnp.tanh(x @ p["in"])
        h = lax.cond(jnp.sum(h) > 0, lambda h: h, lambda h: jnp.sin(h @ p["w"] + p["b"]), h)
        return h @ p["out"]

    shapes = {"in": (3, 5), "w": (5, 5), "b": (5,), "out": (5, 2)}
    return _each(one), draw(key, shapes), data(key, (8, 3))


@case("raw/cond_vmapped", group=((5, 1),))
def cond_vmapped(key):
    # The same under vmap, where the branch becomes a selection.
    def one(p, x):
        h = jnp.tanh(x @ p["in"])
        h = lax.cond(jnp.sum(h) > 0, lambda h: h, lambda h: jnp.sin(h @ p["w"] + p["b"]), h)
        return h @ p["out"]

    shapes = {"in": (3, 5), "w": (5, 5), "b": (5,), "out": (5, 2)}
    return jax.vmap(one, (None, 0)), draw(key, shapes), data(key, (8, 3))


@case("raw/switch", group=((5, 1), (4, 1)))
def switch(key):
    # Three branches over one hidden layer of 5; one has 4 units inside.
    def one(p, x):
        h = jnp.tanh(affine(p["in"], x))
        branches = [
            lambda h: jnp.tanh(h @ p["a"]) @ p["b"],
            lambda h: -h @ p["c"],
            lambda h: jnp.max(h) * p["d"],
        ]
        return lax.switch(jnp.clip(jnp.floor(x[0] + 1.5).astype(int), 0, 2), branches, h)

    shapes = {"in": ((3, 5), (5,)), "a": (5, 4), "b": (4, 2), "c": (5, 2), "d": (2,)}
    return _each(one), draw(key, shapes), data(key, (16, 3))


@case("raw/while_until_norm", group=((5, 1), (4, 1)))
def while_until_norm(key):
    # S_5 of the state, whose norm ends the loop; S_4 inside the body.
    def one(p, x):
        def more(carry):
            return (carry[0] < 5) & (jnp.linalg.norm(carry[1]) < 3.0)

        def body(carry):
            i, h = carry
            return i + 1, h * 1.3 + jnp.tanh(h @ p["a"]) @ p["b"]

        return lax.while_loop(more, body, (0, jnp.tanh(x @ p["in"])))[1] @ p["out"]

    shapes = {"in": (3, 5), "a": (5, 4), "b": (4, 5), "out": (5, 2)}
    return _each(one), draw(key, shapes), data(key, (4, 3))


@case("raw/fixed_point", group=((5, 1),))
def fixed_point(key):
    # S_5: a contracting layer is iterated to rest; at rest its start no longer counts.
    def fn(p, x):
        drive = x @ p["in"] + p["b"]
        w = 0.4 * p["w"] / jnp.linalg.norm(p["w"])

        def step(i, z):
            return jnp.tanh(drive + z @ w)

        return lax.fori_loop(0, 20, step, jnp.zeros_like(drive)) @ p["out"]

    shapes = {"in": (3, 5), "b": (5,), "w": (5, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@jax.custom_jvp
def _clipped(x):
    return jnp.clip(x, -1.0, 1.0) + 0.1 * x


@_clipped.defjvp
def _clipped_jvp(primals, tangents):
    return _clipped(*primals), tangents[0]


@jax.custom_vjp
def _rounded(x):
    return jnp.round(4 * x) / 4 + 0.5 * x


_rounded.defvjp(lambda x: (_rounded(x), None), lambda _, g: (g,))


@case("raw/custom_jvp", group=((6, 1), (5, 1)))
def custom_jvp(key):
    # S_6 x S_5: an activation with a derivative of its own.
    def fn(p, x):
        return _clipped(affine(p[1], _clipped(affine(p[0], x)))) @ p[2]

    return fn, draw(key, [((3, 6), (6,)), ((6, 5), (5,)), (5, 2)]), data(key, (8, 3))


@case("raw/custom_vjp", group=((6, 1), (5, 1)))
def custom_vjp(key):
    # S_6 x S_5: straight-through rounding, inside a jitted layer.
    layer = jax.jit(lambda p, x: _rounded(affine(p, x)))

    def fn(p, x):
        return layer(p[1], layer(p[0], x)) @ p[2]

    return fn, draw(key, [((3, 6), (6,)), ((6, 5), (5,)), (5, 2)]), data(key, (8, 3))


@jax.custom_vjp
def _layer(w, b, x):
    return jnp.tanh(x @ w + b)


def _layer_forward(w, b, x):
    y = _layer(w, b, x)
    return y, (w, x, y)


def _layer_backward(kept, g):
    w, x, y = kept
    g = g * (1 - y**2)
    return x.T @ g, jnp.sum(g, axis=0), g @ w.T


_layer.defvjp(_layer_forward, _layer_backward)


@case("raw/custom_vjp_layer_gradient", group=((6, 1), (5, 1)))
def custom_vjp_layer_gradient(key):
    # S_6 x S_5: value and input gradient of layers with a hand-written backward pass.
    def fn(p, x):
        def total(x):
            return jnp.sum(_layer(*p[1], _layer(*p[0], x)) @ p[2])

        return jax.value_and_grad(total)(x)

    return fn, draw(key, [((3, 6), (6,)), ((6, 5), (5,)), (5,)]), data(key, (6, 3))


@case("raw/jvp_and_hessian", group=((6, 1),))
def jvp_and_hessian(key):
    # S_6: a physics-informed residual, first and second derivatives by forward mode.
    def net(p, x):
        return jnp.dot(jnp.tanh(p["w"] @ x + p["b"]), p["out"])

    def fn(p, x):
        def residual(xi):
            laplacian = jnp.trace(jax.hessian(net, argnums=1)(p, xi))
            return jax.jvp(lambda z: net(p, z), (xi,), (jnp.ones_like(xi),))[1] + laplacian

        return jax.vmap(residual)(x)

    return fn, draw(key, {"w": (6, 2), "b": (6,), "out": (6,)}), data(key, (6, 2))


@case("raw/checkpoint_policy", group=((6, 1), (5, 1)))
def checkpoint_policy(key):
    # S_6 x S_5: naming what a rematerialised block keeps changes nothing.
    policy = jax.checkpoint_policies.save_only_these_names("hidden")

    def block(p, x):
        h = checkpoint_name(jnp.tanh(affine(p[0], x)), "hidden")
        return jnp.tanh(affine(p[1], h)) @ p[2]

    return (
        jax.checkpoint(block, policy=policy),
        draw(key, [((3, 6), (6,)), ((6, 5), (5,)), (5, 2)]),
        data(key, (6, 3)),
    )


@case("raw/pool_gradient", group=((4, 1), (5, 1)))
def pool_gradient(key):
    # S_4 channels and S_5 hidden units: the gradient with respect to an image, through maximum pools.
    def score(p, x):
        x = lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=NHWC)
        x = lax.reduce_window(jnp.sin(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jnp.sum(jnp.tanh(jnp.sum(x, axis=(1, 2)) @ p["a"]) @ p["out"])

    shapes = {"k": (3, 3, 2, 4), "a": (4, 5), "out": (5,)}
    return jax.grad(score, argnums=1), draw(key, shapes, 0.3), data(key, (2, 4, 4, 2))


@case("raw/dropout", group=((4, 1),))
def dropout(key):
    # The 5 units that are dropped at random, by a key that is an input, are told apart by it; S_4 not.
    def fn(p, x, seed):
        h = jnp.tanh(affine(p["a"], x))
        h = jnp.tanh(affine(p["b"], h))
        keep = jax.random.bernoulli(jax.random.wrap_key_data(seed), 0.6, h.shape)
        return jnp.where(keep, h / 0.6, 0) @ p["out"]

    shapes = {"a": ((3, 4), (4,)), "b": ((4, 5), (5,)), "out": (5, 2)}
    seed = jax.random.key_data(jax.random.key(5))
    return fn, draw(key, shapes), (*data(key, (12, 3)), seed)


@case("raw/dropout_shared", group=((4, 1), (5, 1)))
def dropout_shared(key):
    # S_4 and S_5: whole examples are dropped, which tells no units apart.
    def fn(p, x, seed):
        h = jnp.tanh(affine(p["b"], jnp.tanh(affine(p["a"], x))))
        keep = jax.random.bernoulli(jax.random.wrap_key_data(seed), 0.6, (h.shape[0], 1))
        return jnp.where(keep, h / 0.6, 0) @ p["out"]

    shapes = {"a": ((3, 4), (4,)), "b": ((4, 5), (5,)), "out": (5, 2)}
    seed = jax.random.key_data(jax.random.key(5))
    return fn, draw(key, shapes), (*data(key, (12, 3)), seed)


@case("raw/log2_and_friends", group=((6, 1),))
def log2_and_friends(key):
    # S_6 through functions that are rarely met.
    def fn(p, x):
        h = affine(p["a"], x)
        h = jnp.log2(2 + jnp.cbrt(h) ** 2) + jax.scipy.special.erf(h) + jnp.arctan2(h, 2.0)
        return (jnp.nextafter(h, jnp.inf) + jnp.sinc(h) + jnp.log1p(h * h)) @ p["out"]

    return fn, draw(key, {"a": ((3, 6), (6,)), "out": (6, 2)}), data(key, (6, 3))
