"""Free ends: how inputs and outputs move with the weights. Groups count all that moves."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_attention import attend
from .raw_draw import affine, data, draw
from .registry import case

BOTH = {"free": True, "infer_kwargs": {"free_inputs": True, "free_outputs": True}}


@case("raw/free_mlp", group=((6, 1), (3, 1), (7, 1), (2, 1)), **BOTH)
def free_mlp(key):
    # S_6 of the examples, S_3 of the inputs, S_7 hidden, S_2 of the outputs.
    def fn(p, x):
        return affine(p[1], jnp.tanh(affine(p[0], x)))

    return fn, draw(key, [((3, 7), (7,)), ((7, 2), (2,))]), data(key, (6, 3))


@case(
    "raw/free_outputs_only", group=((7, 1), (2, 1)), free=True, infer_kwargs={"free_outputs": True}
)
def free_outputs_only(key):
    # S_7 hidden, S_2 of the outputs; examples and features are told apart.
    def fn(p, x):
        return affine(p[1], jnp.tanh(affine(p[0], x)))

    return fn, draw(key, [((3, 7), (7,)), ((7, 2), (2,))]), data(key, (6, 3))


@case("raw/free_tied_autoencoder", group=((6, 1), (5, 1), (4, 1)), **BOTH)
def free_tied_autoencoder(key):
    # S_6 examples; the transposed decoder ties outputs to inputs, S_5 once; S_4 hidden.
    def fn(p, x):
        return jnp.tanh(x @ p["w"] + p["b"]) @ p["w"].T + p["c"]

    return fn, draw(key, {"w": (5, 4), "b": (4,), "c": (5,)}), data(key, (6, 5))


@case("raw/free_residual", group=((6, 1), (5, 1), (4, 1)), **BOTH)
def free_residual(key):
    # A residual block on the input itself: S_5 once for inputs and outputs.
    def fn(p, x):
        return x + jnp.tanh(affine(p["up"], x)) @ p["down"]

    return fn, draw(key, {"up": ((5, 4), (4,)), "down": (4, 5)}), data(key, (6, 5))


@case("raw/free_softmax", group=((6, 1), (3, 1), (4, 1)), **BOTH)
def free_softmax(key):
    # S_6 examples, S_3 inputs, S_4 classes.
    def fn(p, x):
        return jax.nn.log_softmax(affine(p, x), axis=-1)

    return fn, draw(key, ((3, 4), (4,))), data(key, (6, 3))


@case("raw/free_attention", group=((4, 1), (5, 1), (2, 1), (3, 2), (4, 2), (5, 1)), **BOTH)
def free_attention(key):
    # Equivariant to token order: S_4. S_5 of the inputs' width, heads as ever, S_5 of the outputs'.
    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        return jnp.einsum("thv,hvd->td", attend(q, k, v), p["o"])

    shapes = {"q": (5, 2, 3), "k": (5, 2, 3), "v": (5, 2, 4), "o": (2, 4, 5)}
    return fn, draw(key, shapes), data(key, (4, 5))


@case("raw/free_causal_attention", group=((5, 1), (2, 1), (3, 2), (4, 2), (5, 1)), **BOTH)
def free_causal_attention(key):
    # The mask tells the tokens apart.
    def fn(p, x):
        q, k, v = (jnp.einsum("td,dhk->thk", x, p[n]) for n in "qkv")
        return jnp.einsum("thv,hvd->td", attend(q, k, v, causal=True), p["o"])

    shapes = {"q": (5, 2, 3), "k": (5, 2, 3), "v": (5, 2, 4), "o": (2, 4, 5)}
    return fn, draw(key, shapes), data(key, (4, 5))


@case(
    "raw/free_cross_attention",
    group=((4, 1), (5, 1), (6, 1), (3, 1), (2, 1), (3, 2), (4, 2), (2, 1)),
    **BOTH,
)
def free_cross_attention(key):
    # Queries S_4 x S_5 (places, width), context S_6 x S_3, heads 2, 3, 4, outputs' width S_2.
    def fn(p, x, context):
        q = jnp.einsum("td,dhk->thk", x, p["q"])
        k, v = (jnp.einsum("sc,chk->shk", context, p[n]) for n in "kv")
        return jnp.einsum("thv,hvd->td", attend(q, k, v), p["o"])

    shapes = {"q": (5, 2, 3), "k": (3, 2, 3), "v": (3, 2, 4), "o": (2, 4, 2)}
    return fn, draw(key, shapes), data(key, (4, 5), (6, 3))


@case("raw/free_deep_set", group=((3, 1), (5, 3), (2, 1), (6, 1), (4, 1), (3, 1)), **BOTH)
def free_deep_set(key):
    # S_3 of the sets, S_5 of the elements in each; S_2 features, S_6 and S_4 hidden, S_3 outputs.
    def fn(p, x):
        z = jnp.sum(jnp.tanh(affine(p["a"], x)), axis=-2)
        return jnp.sin(affine(p["b"], z)) @ p["out"]

    shapes = {"a": ((2, 6), (6,)), "b": ((6, 4), (4,)), "out": (4, 3)}
    return fn, draw(key, shapes), data(key, (3, 5, 2))


@case("raw/free_graph", group=((4, 1), (3, 1), (6, 1), (2, 1)), **BOTH)
def free_graph(key):
    # Nodes move in features, in rows and columns of the adjacency matrix and in the outputs: S_4.
    def fn(p, x, a):
        a = jax.nn.sigmoid(a) + jnp.eye(x.shape[0], dtype=x.dtype)
        return a @ jnp.tanh(a @ x @ p["w0"]) @ p["w1"]

    return fn, draw(key, {"w0": (3, 6), "w1": (6, 2)}), data(key, (4, 3), (4, 4))


@case("raw/free_recurrent", group=((4, 1), (3, 1), (5, 1), (2, 1)), **BOTH)
def free_recurrent(key):
    # S_4 sequences, S_3 inputs, S_5 hidden, S_2 outputs; time is told apart by the initial state.
    def fn(p, x):
        def step(h, xt):
            h = jnp.tanh(xt @ p["x"] + h @ p["h"])
            return h, h @ p["out"]

        return lax.scan(step, jnp.zeros((4, 5), x.dtype), x)[1]

    return fn, draw(key, {"x": (3, 5), "h": (5, 5), "out": (5, 2)}), data(key, (3, 4, 3))


@case("raw/free_causal_conv", group=((4, 1), (2, 1), (5, 1), (3, 1)), **BOTH)
def free_causal_conv(key):
    # S_4 sequences, S_2 channels in, S_5 inside, S_3 out; padding on one side tells times apart.
    def fn(p, x):
        for w in p:
            x = lax.conv_general_dilated(
                jnp.sin(x), w, (1,), [(1, 0)], dimension_numbers=("NWC", "WIO", "NWC")
            )
        return x

    return fn, draw(key, [(2, 2, 5), (2, 5, 3)]), data(key, (4, 6, 2))
