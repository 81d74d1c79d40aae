"""Primitives that know the order of their operand; constants and masks that break a symmetry."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case


def _after_hidden(middle, hidden, width, batch=6, scale=0.6):
    """``build``: 3 -> ``hidden`` -> [middle] -> ``width`` outputs by one dense readout."""

    def build(key):
        def fn(p, x):
            return middle(jnp.tanh(affine(p["in"], x))) @ p["out"]

        shapes = {"in": ((3, hidden), (hidden,)), "out": (width, 2)}
        return fn, draw(key, shapes, scale), data(key, (batch, 3))

    return build


# Trivial: arange added before a nonlinearity tells all units apart.
case("raw/add_arange", group=())(_after_hidden(lambda h: jnp.sin(h + jnp.arange(5)), 5, 5))

# Trivial: arange multiplied.
case("raw/scale_arange", group=())(_after_hidden(lambda h: h * jnp.arange(1, 6), 5, 5))

# S_5: a constant that is the same for all units tells none apart.
case("raw/add_uniform", group=((5, 1),))(
    _after_hidden(
        lambda h: jnp.sin(h + jnp.full((5,), 0.3, h.dtype)) * jnp.ones((1, 5), h.dtype), 5, 5
    )
)

# S_3 x S_2: units with equal constants stay interchangeable.
case("raw/add_piecewise", group=((3, 1), (2, 1)))(
    _after_hidden(lambda h: jnp.sin(h + jnp.array([0, 0, 0, 1, 1])), 5, 5)
)

# S_3 x S_3: the same, the two kinds of units alternating.
case("raw/add_alternating", group=((3, 2),))(
    _after_hidden(lambda h: jnp.sin(h + jnp.array([0, 1, 0, 1, 1, 0])), 6, 6)
)

# S_2 x S_4: two activations in one layer, chosen by a constant mask.
case("raw/where_mask", group=((2, 1), (4, 1)))(
    _after_hidden(lambda h: jnp.where(jnp.arange(6) < 2, jnp.sin(3 * h), h * h), 6, 6)
)

# S_3 x S_3: activations alternate with the parity of the unit.
case("raw/where_parity", group=((3, 2),))(
    _after_hidden(lambda h: jnp.where(jnp.arange(6) % 2 == 0, jnp.sin(3 * h), h * h), 6, 6)
)

# Trivial: prefix sums C with C P = Q C for permutations P, Q force P = Q = 1 (row sums differ).
case("raw/cumsum_hidden", group=())(_after_hidden(lambda h: jnp.cumsum(h, axis=-1), 5, 5))

# Trivial, the same for products by an associative scan.
case("raw/associative_scan_hidden", group=())(
    _after_hidden(lambda h: lax.associative_scan(jnp.multiply, 1 + h, axis=-1), 5, 5)
)

# Trivial: a window of three units, padded on one side, is a path without automorphisms.
case("raw/window_hidden", group=())(
    _after_hidden(
        lambda h: lax.reduce_window(h * h, 0.0, lax.add, (1, 3), (1, 1), [(0, 0), (2, 0)]) + h, 5, 5
    )
)

# S_6 before the sort (a sorted list forgets the order of its entries), nothing after it.
case("raw/sort_hidden", group=((6, 1),))(_after_hidden(lambda h: jnp.sort(h, axis=-1), 6, 6))

# S_6 before, nothing after: the three largest.
case("raw/top_k_hidden", group=((6, 1),))(_after_hidden(lambda h: lax.top_k(h, 3)[0], 6, 3))

# S_6 before, nothing after: the sort spelled with indices.
case("raw/argsort_gather", group=((6, 1),))(
    _after_hidden(lambda h: jnp.take_along_axis(h, jnp.argsort(h, axis=-1), axis=-1), 6, 6)
)

# S_7 before, nothing after: the median and two more symmetric statistics.
case("raw/median_hidden", group=((7, 1),))(
    _after_hidden(
        lambda h: jnp.stack([jnp.median(h, -1), jnp.max(h, -1), jnp.var(h, -1)], -1), 7, 3
    )
)


@case("raw/argmax_number", group=((4, 1), (3, 1)))
def argmax_number(key):
    # The position of the largest of 5 is a number, which pins them; S_4 before, S_3 after.
    def fn(p, x):
        h = jnp.tanh(affine(p["a"], x))
        i = jnp.argmax(affine(p["b"], h), axis=-1).astype(x.dtype)
        return jnp.sin(i[:, None] * p["u"]) @ p["out"]

    shapes = {"a": ((3, 4), (4,)), "b": ((4, 5), (5,)), "u": (3,), "out": (3, 2)}
    return fn, draw(key, shapes), data(key, (64, 3))


@case("raw/argmax_lookup", group=((5, 1), (2, 1)))
def argmax_lookup(key):
    # S_5: the winner's row is looked up, rows move with the units that compete; S_2 of their width.
    def fn(p, x):
        return jnp.sin(p["table"][jnp.argmax(affine(p["in"], x), axis=-1)]) @ p["out"]

    return fn, draw(key, {"in": ((3, 5), (5,)), "table": (5, 2), "out": (2, 3)}), data(key, (64, 3))


@case("raw/vector_quantiser", group=((6, 1), (4, 1), (3, 1)))
def vector_quantiser(key):
    # S_6 of the codes (nearest code, looked up again), S_4 of the code's width, S_3 hidden.
    def fn(p, x):
        z = jnp.tanh(x @ p["a"]) @ p["b"]
        distance = jnp.sum((z[:, None, :] - p["codes"]) ** 2, axis=-1)
        code = p["codes"][jnp.argmin(distance, axis=-1)]
        return jnp.sin(z + lax.stop_gradient(code - z)) @ p["dec"]

    shapes = {"a": (3, 3), "b": (3, 4), "codes": (6, 4), "dec": (4, 2)}
    return fn, draw(key, shapes, 1.0), data(key, (96, 3))


@case("raw/eye_residual", group=((5, 1),))
def eye_residual(key):
    # S_5: the identity matrix is the same after rows and columns are permuted together.
    def fn(p, x):
        h = jnp.tanh(x @ p["in"])
        return jnp.tanh(h @ (jnp.eye(5, dtype=h.dtype) + p["w"])) @ p["out"]

    return fn, draw(key, {"in": (3, 5), "w": (5, 5), "out": (5, 2)}), data(key, (6, 3))


@case("raw/zero_diagonal", group=((5, 1),))
def zero_diagonal(key):
    # S_5: a mask that removes self-connections keeps joint permutations.
    def fn(p, x):
        h = jnp.tanh(x @ p["in"])
        w = jnp.where(jnp.eye(5, dtype=bool), 0, p["w"])
        return jnp.tanh(h @ w) @ p["out"]

    return fn, draw(key, {"in": (3, 5), "w": (5, 5), "out": (5, 2)}), data(key, (6, 3))


@case("raw/constant_mixing", group=((4, 1),))
def constant_mixing(key):
    # A generic constant matrix pins the 5 units it mixes; S_4 before it.
    mixing = draw(jax.random.fold_in(key, 9), (5, 5))

    def fn(p, x):
        h = jnp.tanh(jnp.tanh(affine(p["a"], x)) @ p["b"])
        return jnp.tanh(h @ mixing.astype(x.dtype)) @ p["out"]

    return fn, draw(key, {"a": ((3, 4), (4,)), "b": (4, 5), "out": (5, 2)}), data(key, (6, 3))


@case("raw/tril_weights", group=((6, 1),))
def tril_weights(key):
    # The 5 units before and after a triangular matrix are told apart by how many entries they see.
    def fn(p, x):
        h = jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"])
        return jnp.tanh(h @ jnp.tril(p["w"])) @ p["out"]

    shapes = {"a": (3, 6), "b": (6, 5), "w": (5, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (6, 3))


@case("raw/mask_blocks", group=((2, 1), (4, 1), (3, 2)))
def mask_blocks(key):
    # A block mask of 2 x 3 and 4 x 3: S_2 x S_4 of the rows, S_3 x S_3 of the columns.
    def fn(p, x):
        mask = (jnp.arange(6) < 2)[:, None] == (jnp.arange(6) < 3)
        h = jnp.tanh(x @ p["in"])
        return jnp.tanh(h @ (p["w"] * mask)) @ p["out"]

    return fn, draw(key, {"in": (3, 6), "w": (6, 6), "out": (6, 2)}), data(key, (6, 3))


def _made(degrees):
    """Masked autoencoder of 3 inputs (degrees 1, 2, 3) with hidden units of the given degrees."""

    def build(key):
        inputs, hidden = jnp.arange(1, 4), jnp.array(degrees)
        first = (inputs[:, None] <= hidden).astype(jnp.float32)
        second = (hidden[:, None] < inputs).astype(jnp.float32)

        def fn(p, x):
            h = jnp.tanh(x @ (p["w0"] * first) + p["b0"])
            return h @ (p["w1"] * second) + p["b1"]

        n = len(degrees)
        return (
            fn,
            draw(key, {"w0": (3, n), "b0": (n,), "w1": (n, 3), "b1": (3,)}),
            data(key, (6, 3)),
        )

    return build


# S_2 x S_3: hidden units of equal degree see and feed the same coordinates.
case("raw/made_sorted", group=((2, 1), (3, 1)))(_made([1, 1, 2, 2, 2]))

# The same group, the degrees cycling as in the original code.
case("raw/made_cycling", group=((2, 1), (3, 1)))(_made([2, 1, 2, 1, 2]))


@case("raw/fft_hidden", group=((4, 1),))
def fft_hidden(key):
    # The Hartley transform of 5 units is the output and invertible, so they are pinned; S_4 before.
    def fn(p, x):
        z = jnp.fft.fft(jnp.tanh(jnp.tanh(affine(p["a"], x)) @ p["b"]), axis=-1)
        return z.real + z.imag

    return fn, draw(key, {"a": ((3, 4), (4,)), "b": (4, 5)}), data(key, (6, 3))


@case("raw/rfft_inputs", group=((6, 1),))
def rfft_inputs(key):
    # S_6: spectra of the inputs are as fixed as the inputs.
    def fn(p, x):
        z = jnp.fft.rfft(x, axis=-1)
        z = jnp.concatenate([z.real, z.imag[..., 1:-1]], axis=-1)
        return jnp.tanh(affine(p["in"], z)) @ p["out"]

    return fn, draw(key, {"in": ((8, 6), (6,)), "out": (6, 2)}), data(key, (6, 8))


@case("raw/fourier_operator", group=((4, 1), (5, 1)))
def fourier_operator(key):
    # S_4 and S_5: channels before and after a spectral layer; its modes are fixed.
    def fn(p, x):
        v = x @ p["lift"]
        modes = jnp.fft.rfft(v, axis=-2)[..., :3, :]
        weight = lax.complex(p["real"], p["imag"])
        mixed = jnp.fft.irfft(jnp.einsum("bmi,mio->bmo", modes, weight), n=v.shape[-2], axis=-2)
        return jax.nn.gelu(mixed + v @ p["skip"]) @ p["project"]

    shapes = {
        "lift": (2, 4),
        "real": (3, 4, 5),
        "imag": (3, 4, 5),
        "skip": (4, 5),
        "project": (5, 1),
    }
    return fn, draw(key, shapes), data(key, (2, 8, 2))
