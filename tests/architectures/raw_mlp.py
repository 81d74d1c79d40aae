"""Dense networks in plain JAX: the same few layers as different users write them."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case


@case("raw/mlp_tuples", group=((7, 1), (5, 1)))
def mlp_tuples(key):
    # S_7 x S_5: the two hidden layers; inputs and outputs stand for themselves.
    def fn(p, x):
        for layer in p[:-1]:
            x = jnp.tanh(affine(layer, x))
        return affine(p[-1], x)

    return fn, draw(key, [((3, 7), (7,)), ((7, 5), (5,)), ((5, 2), (2,))]), data(key, (6, 3))


@case("raw/mlp_dict", group=((7, 1), (5, 1)))
def mlp_dict(key):
    # S_7 x S_5, one unbatched example.
    def fn(p, x):
        x = jax.nn.gelu(p["hidden0"]["w"].T @ x + p["hidden0"]["b"])
        x = jax.nn.softplus(p["hidden1"]["w"].T @ x + p["hidden1"]["b"])
        return p["out"]["w"].T @ x

    shapes = {
        "hidden0": {"w": (3, 7), "b": (7,)},
        "hidden1": {"w": (7, 5), "b": (5,)},
        "out": {"w": (5, 2)},
    }
    return fn, draw(key, shapes), data(key, (3,))


@case("raw/mlp_one_width", group=((5, 3),))
def mlp_one_width(key):
    # S_5^3: hidden layers of one width are independent, although all sizes agree.
    def fn(p, x):
        for w in p[:-1]:
            x = jnp.tanh(lax.dot_general(x, w, (((1,), (1,)), ((), ()))))
        return x @ p[-1].T

    return fn, draw(key, [(5, 3), (5, 5), (5, 5), (2, 5)]), data(key, (6, 3))


@case("raw/mlp_jit", group=((7, 1), (5, 1)))
def mlp_jit(key):
    # S_7 x S_5: jit around a layer changes nothing.
    layer = jax.jit(lambda p, x: jax.nn.silu(affine(p, x)))

    def fn(p, x):
        return affine(p[2], layer(p[1], layer(p[0], x)))

    return fn, draw(key, [((3, 7), (7,)), ((7, 5), (5,)), ((5, 2), (2,))]), data(key, (6, 3))


@case("raw/mlp_checkpoint", group=((7, 1), (5, 1)))
def mlp_checkpoint(key):
    # S_7 x S_5: rematerialisation changes nothing.
    @jax.checkpoint
    def body(p, x):
        return jnp.sin(affine(p["b"], jnp.sin(affine(p["a"], x))))

    def fn(p, x):
        return jax.jit(body)(p, x) @ p["out"]

    shapes = {"a": ((3, 7), (7,)), "b": ((7, 5), (5,)), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/mlp_vmap", group=((7, 1), (5, 1)))
def mlp_vmap(key):
    # S_7 x S_5: vmap over examples.
    def one(p, x):
        h = jnp.tanh(jnp.dot(p["w0"], x) + p["b0"])
        h = jnp.tanh(jnp.dot(p["w1"], h) + p["b1"])
        return jnp.dot(p["w2"], h)

    shapes = {"w0": (7, 3), "b0": (7,), "w1": (5, 7), "b1": (5,), "w2": (2, 5)}
    return jax.vmap(one, in_axes=(None, 0)), draw(key, shapes), data(key, (6, 3))


@case("raw/mlp_itself", group=((7, 1),))
def mlp_itself(key):
    # S_7: the parameters are one array, a mean over random features.
    def fn(w, x):
        return jnp.mean(jnp.cos(jnp.einsum("hi,bi->bh", w, x)) ** 3, axis=-1)

    return fn, draw(key, (7, 3)), data(key, (6, 3))


@case("raw/mlp_concat_skip", group=((6, 1), (4, 1)))
def mlp_concat_skip(key):
    # S_6 x S_4: the readout sees both hidden layers and the (fixed) input side by side.
    def fn(p, x):
        a = jnp.tanh(affine(p["a"], x))
        b = jnp.tanh(affine(p["b"], a))
        return affine(p["out"], jnp.concatenate([a, b, x], axis=-1))

    shapes = {"a": ((3, 6), (6,)), "b": ((6, 4), (4,)), "out": ((13, 2), (2,))}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/mlp_dense_blocks", group=((6, 1), (5, 1), (4, 1)))
def mlp_dense_blocks(key):
    # S_6 x S_5 x S_4: every layer reads the concatenation of all before it.
    def fn(p, x):
        for layer in p[:-1]:
            x = jnp.concatenate([x, jnp.tanh(affine(layer, x))], axis=-1)
        return affine(p[-1], x)

    shapes = [((3, 6), (6,)), ((9, 5), (5,)), ((14, 4), (4,)), ((18, 2), (2,))]
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/mlp_residual", group=((5, 1), (7, 2)))
def mlp_residual(key):
    # S_5 of the residual stream, S_7 inside each of the two blocks; a scalar gate moves nothing.
    def fn(p, x):
        h = x @ p["embed"]
        for block in p["blocks"]:
            h = h + block["alpha"] * (jax.nn.leaky_relu(affine(block["up"], h)) @ block["down"])
        return h @ p["out"]

    block = {"up": ((5, 7), (7,)), "down": (7, 5), "alpha": ()}
    shapes = {"embed": (3, 5), "blocks": [block, block], "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (12, 3))


@case("raw/highway", group=((5, 1),))
def highway(key):
    # S_5: transform, gate and carry share the stream.
    def fn(p, x):
        h = x @ p["embed"]
        for layer in p["layers"]:
            gate = jax.nn.sigmoid(affine(layer["gate"], h))
            h = gate * jnp.tanh(affine(layer["value"], h)) + (1 - gate) * h
        return h @ p["out"]

    layer = {"gate": ((5, 5), (5,)), "value": ((5, 5), (5,))}
    shapes = {"embed": (3, 5), "layers": (layer, layer), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/nerf", group=((8, 1), (6, 1), (5, 1), (4, 1), (3, 1)))
def nerf(key):
    # Trunk 8, 6 (the encoding rejoins), 5; a feature of 4 joins the view; colour 3.
    def encode(x, octaves):
        angles = x[..., None] * (2.0 ** jnp.arange(octaves, dtype=x.dtype))
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return jnp.concatenate([x, waves.reshape(*x.shape[:-1], -1)], axis=-1)

    def fn(p, x, view):
        enc = encode(x, 2)
        h = jax.nn.leaky_relu(affine(p["t0"], enc))
        h = jax.nn.leaky_relu(affine(p["t1"], h))
        h = jax.nn.leaky_relu(affine(p["t2"], jnp.concatenate([h, enc], axis=-1)))
        density = jax.nn.softplus(affine(p["density"], h))
        h = jnp.concatenate([affine(p["feature"], h), encode(view, 1)], axis=-1)
        colour = jax.nn.sigmoid(affine(p["colour"], jax.nn.leaky_relu(affine(p["head"], h))))
        return jnp.concatenate([colour, density], axis=-1)

    sizes = {
        "t0": (15, 8), "t1": (8, 6), "t2": (21, 5), "density": (5, 1),
        "feature": (5, 4), "head": (13, 3), "colour": (3, 2),
    }  # fmt: skip
    shapes = {name: ((i, o), (o,)) for name, (i, o) in sizes.items()}
    return fn, draw(key, shapes), data(key, (16, 3), (16, 3))


@case("raw/siren", group=((8, 1), (6, 1)))
def siren(key):
    # S_8 x S_6 (the sine's sign flips and shifts are no permutations).
    def fn(p, x):
        h = jnp.sin(30.0 * affine(p[0], x))
        h = jnp.sin(3.0 * affine(p[1], h))
        return affine(p[2], h)

    return fn, draw(key, [((2, 8), (8,)), ((8, 6), (6,)), ((6, 3), (3,))]), data(key, (6, 2))


@case("raw/fourier_features", group=((6, 1), (5, 1)))
def fourier_features(key):
    # S_6: a frequency moves its sine row and its cosine row of the next layer together; S_5 hidden.
    def fn(p, x):
        z = 2 * jnp.pi * (x @ p["freq"])
        z = jnp.concatenate([jnp.sin(z), jnp.cos(z)], axis=-1)
        return jnp.tanh(affine(p["a"], z)) @ p["out"]

    return fn, draw(key, {"freq": (2, 6), "a": ((12, 5), (5,)), "out": (5, 2)}), data(key, (6, 2))


@case("raw/energy_gradient", group=((7, 1), (5, 1)))
def energy_gradient(key):
    # S_7 x S_5: the function is the gradient of a network with respect to its input.
    def energy(p, x):
        return jnp.sum(jnp.tanh(affine(p[1], jnp.tanh(affine(p[0], x)))) @ p[2])

    shapes = [((3, 7), (7,)), ((7, 5), (5,)), (5,)]
    return jax.grad(energy, argnums=1), draw(key, shapes), data(key, (6, 3))


@case("raw/inner_step", group=((7, 1),))
def inner_step(key):
    # S_7: one step of gradient descent on the weights moves with the weights.
    def net(p, x):
        return jnp.tanh(affine(p["a"], x)) @ p["out"]

    def fn(p, x, y, x_new):
        def loss(p):
            return jnp.mean((net(p, x) - y) ** 2)

        p = jax.tree.map(lambda w, g: w - 0.3 * g, p, jax.grad(loss)(p))
        return net(p, x_new)

    return fn, draw(key, {"a": ((3, 7), (7,)), "out": (7, 2)}), data(key, (6, 3), (6, 2), (4, 3))


@case("raw/neural_ode", group=((3, 1), (7, 1)))
def neural_ode(key):
    # S_3 of the state between encoder and decoder, S_7 inside the vector field.
    def field(p, t, h):
        return jnp.tanh(affine(p["a"], h) + t * p["time"]) @ p["b"]

    def fn(p, x):
        dt = 0.25

        def step(i, h):
            t = i * dt
            k1 = field(p, t, h)
            k2 = field(p, t + dt / 2, h + dt / 2 * k1)
            return h + dt * k2

        return lax.fori_loop(0, 4, step, x @ p["enc"]) @ p["dec"]

    shapes = {"enc": (2, 3), "a": ((3, 7), (7,)), "time": (7,), "b": (7, 3), "dec": (3, 2)}
    return fn, draw(key, shapes), data(key, (6, 2))


@case("raw/coupling_flow", group=((5, 1), (6, 1)))
def coupling_flow(key):
    # S_5 and S_6: the conditioners' hidden units; the input's halves are fixed.
    def fn(p, x):
        a, b = x[..., :2], x[..., 2:]
        log_s, t = jnp.split(jnp.tanh(affine(p[0]["h"], a)) @ p[0]["out"], 2, axis=-1)
        b = b * jnp.exp(log_s) + t
        log_r, u = jnp.split(jnp.tanh(affine(p[1]["h"], b)) @ p[1]["out"], 2, axis=-1)
        a = a * jnp.exp(log_r) + u
        return jnp.concatenate([a, b], axis=-1), jnp.sum(log_s, -1) + jnp.sum(log_r, -1)

    shapes = [{"h": ((2, 5), (5,)), "out": (5, 6)}, {"h": ((3, 6), (6,)), "out": (6, 4)}]
    return fn, draw(key, shapes), data(key, (6, 5))
