"""Hidden layers halved, sliced, grouped, repeated or reordered between writer and reader."""

import jax
import jax.numpy as jnp

from .raw_draw import affine, data, draw
from .registry import case


@case("raw/glu_split", group=((5, 1),))
def glu_split(key):
    # S_5: value and gate of a unit move together, "_ h+h".
    def fn(p, x):
        value, gate = jnp.split(affine(p["in"], x), 2, axis=-1)
        return (value * jax.nn.sigmoid(gate)) @ p["out"]

    return fn, draw(key, {"in": ((3, 10), (10,)), "out": (5, 2)}), data(key, (6, 3))


@case("raw/glu_slices", group=((5, 1),))
def glu_slices(key):
    # S_5, with the halves cut by slices.
    def fn(p, x):
        z = affine(p["in"], x)
        return (jax.nn.silu(z[..., :5]) * z[..., 5:]) @ p["out"]

    return fn, draw(key, {"in": ((3, 10), (10,)), "out": (5, 2)}), data(key, (6, 3))


@case("raw/glu_reshape", group=((5, 1),))
def glu_reshape(key):
    # S_5, gate and value interleaved: "_ (h _2)".
    def fn(p, x):
        z = affine(p["in"], x).reshape(-1, 5, 2)
        return (jax.nn.gelu(z[..., 0]) * z[..., 1]) @ p["out"]

    return fn, draw(key, {"in": ((3, 10), (10,)), "out": (5, 2)}), data(key, (6, 3))


@case("raw/glu_strided", group=((5, 1),))
def glu_strided(key):
    # S_5, gate and value interleaved and cut by strided slices.
    def fn(p, x):
        z = affine(p["in"], x)
        return (jax.nn.gelu(z[..., ::2]) * z[..., 1::2]) @ p["out"]

    return fn, draw(key, {"in": ((3, 10), (10,)), "out": (5, 2)}), data(key, (6, 3))


@case("raw/maxout", group=((5, 1), (3, 5)))
def maxout(key):
    # S_5 units; within each, S_3 of the pieces that compete.
    def fn(p, x):
        z = affine(p["in"], x).reshape(*x.shape[:-1], 5, 3)
        return jnp.max(z, axis=-1) @ p["out"]

    return fn, draw(key, {"in": ((3, 15), (15,)), "out": (5, 2)}), data(key, (40, 3))


@case("raw/crelu", group=((5, 1),))
def crelu(key):
    # S_5: both rectified halves of a unit are read by rows that move together.
    def fn(p, x):
        z = affine(p["in"], x)
        return jnp.concatenate([jax.nn.relu(z), jax.nn.relu(-z)], axis=-1) @ p["out"]

    return fn, draw(key, {"in": ((3, 5), (5,)), "out": (10, 2)}), data(key, (12, 3))


@case("raw/bilinear", group=((5, 1), (4, 1), (3, 1)))
def bilinear(key):
    # S_5 x S_4 of the two operands, S_3 of the result.
    def fn(p, x, y):
        u, v = jnp.tanh(affine(p["u"], x)), jnp.tanh(affine(p["v"], y))
        return jnp.tanh(jnp.einsum("bi,ijk,bj->bk", u, p["t"], v)) @ p["out"]

    shapes = {"u": ((2, 5), (5,)), "v": ((3, 4), (4,)), "t": (5, 4, 3), "out": (3, 2)}
    return fn, draw(key, shapes), data(key, (6, 2), (6, 3))


@case("raw/slices_two_readers", group=((4, 2),))
def slices_two_readers(key):
    # S_4 x S_4: each half of the hidden layer has its own reader.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x))
        return h[..., :4] @ p["a"] + jnp.sin(h[..., 4:] @ p["b"])

    return fn, draw(key, {"in": ((3, 8), (8,)), "a": (4, 2), "b": (4, 2)}), data(key, (6, 3))


@case("raw/slices_overlap", group=((2, 2), (3, 1)))
def slices_overlap(key):
    # S_2 x S_3 x S_2: units 0-1 seen by a, 2-4 by both, 5-6 by b.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x))
        return h[..., :5] @ p["a"] + jnp.sin(h[..., 2:] @ p["b"])

    return fn, draw(key, {"in": ((3, 7), (7,)), "a": (5, 2), "b": (5, 2)}), data(key, (6, 3))


@case("raw/slices_strided", group=((4, 1), (3, 1)))
def slices_strided(key):
    # S_4 of the even units, S_3 of the odd ones.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x))
        return h[..., ::2] @ p["a"] + jnp.sin(h[..., 1::2] @ p["b"])

    return fn, draw(key, {"in": ((3, 7), (7,)), "a": (4, 2), "b": (3, 2)}), data(key, (6, 3))


@case("raw/slice_shifted_sum", group=((4, 1),))
def slice_shifted_sum(key):
    # Two packed layers of 4 added pairwise: "h+h" in, S_4.
    def fn(p, x):
        z = jnp.tanh(affine(p["in"], x))
        first = jax.lax.dynamic_slice_in_dim(z, 0, 4, axis=-1)
        second = jax.lax.dynamic_slice_in_dim(z, 4, 4, axis=-1)
        return (first * p["scale"] + second) @ p["out"]

    shapes = {"in": ((3, 8), (8,)), "scale": (4,), "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/repeat", group=((4, 1), (2, 12)))
def repeat(key):
    # S_4; an output sums the two weights that read a unit's copies, so these may be exchanged for
    # each unit and each of the 3 outputs by itself: S_2^12.
    def fn(p, x):
        return jnp.repeat(jnp.tanh(affine(p["in"], x)), 2, axis=-1) @ p["out"]

    return fn, draw(key, {"in": ((3, 4), (4,)), "out": (8, 3)}), data(key, (6, 3))


@case("raw/tile", group=((4, 1), (2, 12)))
def tile(key):
    # As for repeat, the copies stored one after the other.
    def fn(p, x):
        return jnp.tile(jnp.tanh(affine(p["in"], x)), 2) @ p["out"]

    return fn, draw(key, {"in": ((3, 4), (4,)), "out": (8, 3)}), data(key, (6, 3))


@case("raw/pad_one_side", group=((4, 1), (3, 1), (5, 1)))
def pad_one_side(key):
    # S_4 of the padded stream; the 3 padded places hold zeros and are interchangeable; S_5 inside.
    def fn(p, x):
        h = jnp.tanh(x @ p["in"])
        return (jnp.pad(h, ((0, 0), (0, 3))) + jnp.tanh(h @ p["a"]) @ p["b"]) @ p["out"]

    shapes = {"in": (3, 4), "a": (4, 5), "b": (5, 7), "out": (7, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/pad_both_sides", group=((4, 1), (3, 1), (5, 1)))
def pad_both_sides(key):
    # As above: the 1 + 2 padded places hold the same zeros, so all 3 are interchangeable: S_3.
    def fn(p, x):
        h = jnp.tanh(x @ p["in"])
        return (jnp.pad(h, ((0, 0), (1, 2))) + jnp.tanh(h @ p["a"]) @ p["b"]) @ p["out"]

    shapes = {"in": (3, 4), "a": (4, 5), "b": (5, 7), "out": (7, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/shuffle", group=((6, 1),))
def shuffle(key):
    # S_6: a fixed reordering between writer and reader conjugates the group, it does not shrink it.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x))
        return h.reshape(-1, 2, 3).swapaxes(1, 2).reshape(-1, 6) @ p["out"]

    return fn, draw(key, {"in": ((3, 6), (6,)), "out": (6, 2)}), data(key, (6, 3))


@case("raw/fixed_reordering", group=((6, 1),))
def fixed_reordering(key):
    # S_6: the same with an arbitrary constant order, as flows use between layers.
    order = jnp.array([3, 0, 5, 1, 4, 2])

    def fn(p, x):
        return jnp.take(jnp.tanh(affine(p["in"], x)), order, axis=-1) @ p["out"]

    return fn, draw(key, {"in": ((3, 6), (6,)), "out": (6, 2)}), data(key, (6, 3))


@case("raw/flip_hidden", group=((6, 1),))
def flip_hidden(key):
    # S_6: the same with the reversed order.
    def fn(p, x):
        return jnp.flip(jnp.tanh(affine(p["in"], x)), axis=-1) @ p["out"]

    return fn, draw(key, {"in": ((3, 6), (6,)), "out": (6, 2)}), data(key, (6, 3))


@case("raw/roll_hidden", group=((5, 1), (4, 1)))
def roll_hidden(key):
    # S_5 x S_4: a cyclic shift is a fixed reordering too.
    def fn(p, x):
        h = jnp.roll(jnp.tanh(affine(p["a"], x)), 2, axis=-1)
        return jnp.tanh(affine(p["b"], h)) @ p["out"]

    shapes = {"a": ((3, 5), (5,)), "b": ((5, 4), (4,)), "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/grouped_dense", group=((2, 1), (3, 2), (4, 2)))
def grouped_dense(key):
    # S_2 of the groups; S_3 in and S_4 out within each, independently.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x)).reshape(-1, 2, 3)
        h = jnp.tanh(jnp.einsum("bgi,gio->bgo", h, p["mix"])).reshape(-1, 8)
        return h @ p["out"]

    shapes = {"in": ((3, 6), (6,)), "mix": (2, 3, 4), "out": (8, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/monarch", group=((2, 1), (3, 2), (3, 1), (2, 3)))
def monarch(key):
    # S_2 of the rows a, S_3 of the entries b of each, S_3 of the columns c, S_2 of the results e of
    # each: the middle units (a, c) are cut by both block structures, so only S_a x S_c.
    def fn(p, x):
        h = jnp.tanh(affine(p["in"], x)).reshape(-1, 2, 3)
        h = jnp.einsum("nab,abc->nac", h, p["rows"])
        h = jnp.einsum("nac,cae->nce", h, p["columns"])
        return jnp.tanh(h).reshape(-1, 6) @ p["out"]

    shapes = {"in": ((4, 6), (6,)), "rows": (2, 3, 3), "columns": (3, 2, 2), "out": (6, 2)}
    return fn, draw(key, shapes), data(key, (6, 4))
