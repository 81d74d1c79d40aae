"""Primitives that few networks use: unstacking, bits, ragged products, decompositions, random keys."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case

TWO_LAYERS = {"a": ((3, 4), (4,)), "b": ((4, 5), (5,)), "out": (5, 2)}


@case("raw/layers_iterated", group=((6, 1), (5, 3)))
def layers_iterated(key):
    # S_6 of the residual stream; S_5 in each of three blocks, whose weights are taken off a stack.
    def fn(p, x):
        x = x @ p["in"]
        for up, down in zip(p["up"], jnp.unstack(p["down"], axis=1), strict=True):
            x = x + jnp.tanh(x @ up) @ down
        return x @ p["out"]

    shapes = {"in": (3, 6), "up": (3, 6, 5), "down": (5, 3, 6), "out": (6, 2)}
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/glu_unstacked", group=((5, 1),))
def glu_unstacked(key):
    # S_5: values and gates are the two columns of each unit.
    def fn(p, x):
        value, gate = jnp.unstack((x @ p["w"]).reshape(-1, 5, 2), axis=-1)
        return (value * jax.nn.sigmoid(gate)) @ p["out"]

    return fn, draw(key, {"w": (3, 10), "out": (5, 2)}), data(key, (8, 3))


@case("raw/pool_tangent", group=((4, 1), (5, 1)))
def pool_tangent(key):
    # S_4 channels and S_5 hidden units: the derivative along a direction, through maximum pools.
    def score(p, x):
        x = jnp.einsum("bhwc,cd->bhwd", x, p["k"])
        x = lax.reduce_window(jnp.sin(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 2, 1), "SAME")
        return jnp.tanh(jnp.mean(x**2, axis=(1, 2)) @ p["a"]) @ p["out"]

    def fn(p, x, direction):
        return jax.jvp(lambda x: score(p, x), (x,), (direction,))

    shapes = {"k": (2, 4), "a": (4, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (3, 4, 4, 2), (3, 4, 4, 2))


@case("raw/pool_inner_step", group=((4, 1),))
def pool_inner_step(key):
    # S_4 channels: one step of gradient descent through a maximum pool, then the network.
    def net(p, x):
        x = jnp.einsum("bhwc,cd->bhwd", x, p["k"])
        x = lax.reduce_window(jnp.sin(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jnp.mean(x, axis=(1, 2)) @ p["out"]

    def fn(p, x, y):
        grads = jax.grad(lambda p: jnp.mean((net(p, x) - y) ** 2))(p)
        return net(jax.tree.map(lambda w, g: w - 0.1 * g, p, grads), x)

    shapes = {"k": (2, 4), "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (3, 4, 4, 2), (3, 2))


@case("raw/bits", group=((6, 1),))
def bits(key):
    # S_6: signs and exponents, read off the bits of each number.
    def fn(p, x):
        h = affine(p["a"], x)
        mantissa, exponent = jnp.frexp(h)
        return jnp.where(jnp.signbit(h), 0.1 * h, mantissa + exponent) @ p["out"]

    return fn, draw(key, {"a": ((3, 6), (6,)), "out": (6, 2)}), data(key, (8, 3))


@case("raw/derivative_of_tanh", group=((6, 1),))
def derivative_of_tanh(key):
    # S_6 through the derivatives of tanh, of log2 and of cbrt.
    def fn(p, x):
        h, tangent = jax.jvp(jnp.tanh, (affine(p["a"], x),), (x @ p["b"],))
        return (jax.vmap(jax.vmap(jax.grad(jnp.log2)))(2 + h) * tangent) @ p["out"]

    return fn, draw(key, {"a": ((3, 6), (6,)), "b": (3, 6), "out": (6, 2)}), data(key, (6, 3))


@case("raw/moved_to_device", group=((6, 1),))
def moved_to_device(key):
    # S_6: where an array lies changes nothing.
    def fn(p, x):
        h, out = jax.device_put((affine(p["a"], x), p["out"]), jax.devices()[0])
        return jnp.tanh(h) @ out

    return fn, draw(key, {"a": ((3, 6), (6,)), "out": (6, 2)}), data(key, (6, 3))


@case("raw/approximate_top_k", group=((4, 1),), exceptions=("b/0", "b/1"))
def approximate_top_k(key):
    # S_4 of the first layer. Where a unit stands may decide whether it is found to be large, except
    # on a processor that looks at all of them, as here.
    def fn(p, x):
        h = affine(p["b"], jnp.tanh(affine(p["a"], x)))
        return lax.approx_max_k(h, 3)[0] @ p["out"]

    return fn, draw(key, {**TWO_LAYERS, "out": (3, 2)}), data(key, (6, 3))


@case("raw/experts_ragged", group=((4, 3), (2, 1)))
def experts_ragged(key):
    # S_4 in each of three experts, which stand in the order of the runs of rows; S_2 joins them.
    def fn(p, x, runs):
        h = jnp.tanh(lax.ragged_dot(x, p["up"], runs))
        return jnp.tanh(lax.ragged_dot(h, p["down"], runs)) @ p["out"]

    shapes = {"up": (3, 3, 4), "down": (3, 4, 2), "out": (2, 2)}
    return fn, draw(key, shapes), (*data(key, (9, 3)), jnp.array([2, 4, 3], jnp.int32))


@case("raw/gaussians_cholesky", group=((4, 1), (2, 4)))
def gaussians_cholesky(key):
    # S_4 of the components, S_2 of the factors of each covariance, which is a sum over them.
    def fn(p, x):
        covariance = jnp.eye(3, dtype=x.dtype) + p["factor"] @ jnp.swapaxes(p["factor"], -1, -2)
        lower = jnp.linalg.cholesky(covariance)
        apart = jnp.swapaxes(x - p["mean"][:, None], -1, -2)  # (components, 3, batch)
        white = lax.linalg.triangular_solve(lower, apart, left_side=True, lower=True)
        return jax.nn.logsumexp(p["weight"][:, None] - jnp.sum(white**2, axis=1), axis=0)

    shapes = {"mean": (4, 3), "factor": (4, 3, 2), "weight": (4,)}
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/gaussians_solve", group=((4, 1), (2, 4)))
def gaussians_solve(key):
    # The same with the inverse and the determinant of each covariance.
    def fn(p, x):
        covariance = jnp.eye(3, dtype=x.dtype) + p["factor"] @ jnp.swapaxes(p["factor"], -1, -2)
        apart = x - p["mean"][:, None]
        near = jnp.linalg.solve(covariance, jnp.swapaxes(apart, -1, -2))
        distance = jnp.einsum("cbi,cib->cb", apart, near)
        score = p["weight"] - jnp.linalg.slogdet(covariance)[1]
        return jax.nn.logsumexp(score[:, None] - distance, axis=0)

    shapes = {"mean": (4, 3), "factor": (4, 3, 2), "weight": (4,)}
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/spectral_norm_exact", group=((4, 1), (5, 1)))
def spectral_norm_exact(key):
    # S_4 and S_5: each weight is divided by its largest singular value.
    def fn(p, x):
        (a, s), (b, t) = p["a"], p["b"]
        h = jnp.tanh(x @ (a / jnp.linalg.norm(a, 2)) + s)
        return jnp.tanh(h @ (b / jnp.linalg.svd(b, compute_uv=False)[0]) + t) @ p["out"]

    return fn, draw(key, TWO_LAYERS), data(key, (8, 3))


@case("raw/dropout_key_closed_over", group=((4, 1),))
def dropout_key_closed_over(key):
    # The 5 units that a key drops at random are told apart by it; S_4 not.
    def fn(p, x):
        h = jnp.tanh(affine(p["b"], jnp.tanh(affine(p["a"], x))))
        return jnp.where(jax.random.bernoulli(seed, 0.6, h.shape), h, 0) @ p["out"]

    seed = jax.random.key(5)
    return fn, draw(key, TWO_LAYERS), data(key, (12, 3))


@case("raw/dropout_keys_split", group=((6, 1),))
def dropout_keys_split(key):
    # Both layers that are dropped have a key split off an old one that is an input; S_6 has none.
    def fn(p, x, seed):
        first, second = jax.random.split(seed)
        h = jnp.tanh(affine(p["a"], x))
        h = jnp.where(jax.random.bernoulli(first, 0.6, h.shape), h, 0)
        h = jnp.tanh(affine(p["b"], h))
        h = jnp.where(jax.random.bernoulli(second, 0.6, h.shape), h, 0)
        return jnp.tanh(h @ p["c"]) @ p["out"]

    shapes = {**TWO_LAYERS, "c": (5, 6), "out": (6, 2)}
    return fn, draw(key, shapes), (*data(key, (12, 3)), jax.random.PRNGKey(3))


@case("raw/stochastic_depth_keys", group=((5, 1), (4, 2)))
def stochastic_depth_keys(key):
    # S_5 of the stream and S_4 in each block: a key decides for each example which blocks it skips.
    def fn(p, x, seed):
        x = x @ p["in"]
        for i, (up, down) in enumerate(p["blocks"]):
            keep = jax.random.bernoulli(jax.random.fold_in(seed, i), 0.7, (len(x), 1))
            x = x + keep * (jnp.tanh(x @ up) @ down)
        return x @ p["out"]

    blocks = [((5, 4), (4, 5))] * 2
    shapes = {"in": (3, 5), "blocks": blocks, "out": (5, 2)}
    return fn, draw(key, shapes), (*data(key, (12, 3)), jax.random.key(7))


@case("raw/noise_shared_by_units", group=((4, 1), (5, 1)))
def noise_shared_by_units(key):
    # S_4 and S_5: noise that all units of a layer share, drawn in a loop over samples.
    def fn(p, x, seed):
        def sample(k):
            noise = jax.random.normal(k, (len(x), 1), x.dtype)
            h = jnp.tanh(affine(p["a"], x) + noise)
            return jnp.tanh(affine(p["b"], h)) @ p["out"]

        return jnp.mean(lax.map(sample, jax.random.split(seed, 3)), axis=0)

    return fn, draw(key, TWO_LAYERS), (*data(key, (8, 3)), jax.random.key(9))
