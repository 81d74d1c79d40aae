"""Recurrent networks in plain JAX: four loops, and every way to pack the gates."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case

T, B, N_IN = 4, 3, 3  # time, batch, inputs


def rnn_step(p, h, x):
    """Elman cell."""
    return jnp.tanh(x @ p["x"] + h @ p["h"] + p["b"])


RNN = {"x": (N_IN, 5), "h": (5, 5), "b": (5,), "out": (5, 2)}


@case("raw/rnn_scan", group=((5, 1),))
def rnn_scan(key):
    # S_5: the recurrent matrix moves by rows and columns together; outputs at every step.
    def fn(p, x):
        def step(h, xt):
            h = rnn_step(p, h, xt)
            return h, h @ p["out"]

        return lax.scan(step, jnp.zeros((B, 5), x.dtype), x)[1]

    return fn, draw(key, RNN), data(key, (T, B, N_IN))


@case("raw/rnn_fori", group=((5, 1),))
def rnn_fori(key):
    # S_5: inputs indexed by the loop counter, hidden states written into a buffer.
    def fn(p, x):
        def step(t, carry):
            h, record = carry
            h = rnn_step(p, h, lax.dynamic_index_in_dim(x, t, keepdims=False))
            return h, record.at[t].set(h)

        carry = jnp.zeros((B, 5), x.dtype), jnp.zeros((T, B, 5), x.dtype)
        return lax.fori_loop(0, T, step, carry)[1] @ p["out"]

    return fn, draw(key, RNN), data(key, (T, B, N_IN))


@case("raw/rnn_python_loop", group=((5, 1),))
def rnn_python_loop(key):
    # S_5; the initial state is a parameter and moves along.
    def fn(p, x):
        h = jnp.broadcast_to(p["h0"], (B, 5))
        for t in range(T):
            h = rnn_step(p, h, x[t])
        return h @ p["out"]

    return fn, draw(key, RNN | {"h0": (5,)}), data(key, (T, B, N_IN))


@case("raw/rnn_while", group=((5, 1),))
def rnn_while(key):
    # S_5: the loop ends when the state, measured by its norm, has moved little or time is up.
    def fn(p, x):
        drive = x @ p["x"] + p["b"]

        def more(carry):
            t, h, old = carry
            return (t < 6) & (jnp.sum((h - old) ** 2) > 1e-3)

        def step(carry):
            t, h, _ = carry
            return t + 1, jnp.tanh(drive + h @ p["h"]), h

        zero = jnp.zeros_like(drive)
        return lax.while_loop(more, step, (0, zero, zero + 1))[1] @ p["out"]

    return fn, draw(key, RNN), data(key, (B, N_IN))


def _lstm(gates, packed):
    """``build`` for an LSTM of 5 units; ``gates(p, x, h)`` gives (i, f, g, o)."""

    def build(key):
        def fn(p, x):
            def step(carry, xt):
                c, h = carry
                i, f, g, o = gates(p, xt, h)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (c, h), h

            zero = jnp.zeros((B, 5), x.dtype)
            return lax.scan(step, (zero, zero), x)[1] @ p["out"]

        return fn, draw(key, packed | {"out": (5, 2)}), data(key, (T, B, N_IN))

    return build


FLAT = {"x": (N_IN, 20), "h": (5, 20), "b": (20,)}


def _pre(p, x, h):
    return x @ p["x"] + h @ p["h"] + p["b"]


# S_5, kernels "_ h+h+h+h" and "h h+h+h+h".
case("raw/lstm_split", group=((5, 1),))(
    _lstm(lambda p, x, h: jnp.split(_pre(p, x, h), 4, -1), FLAT)
)

# S_5, kernels "_ (_4 h)": gates by reshape.
case("raw/lstm_reshape", group=((5, 1),))(
    _lstm(lambda p, x, h: jnp.moveaxis(_pre(p, x, h).reshape(-1, 4, 5), 1, 0), FLAT)
)

# S_5, kernels "_ (h _4)": the gates of a unit side by side.
case("raw/lstm_reshape_inner", group=((5, 1),))(
    _lstm(lambda p, x, h: jnp.moveaxis(_pre(p, x, h).reshape(-1, 5, 4), 2, 0), FLAT)
)

# S_5, gates by slices.
case("raw/lstm_slices", group=((5, 1),))(
    _lstm(lambda p, x, h: [_pre(p, x, h)[:, 5 * k : 5 * k + 5] for k in range(4)], FLAT)
)

# S_5, kernels "_+h _4.." : input and state side by side, one kernel with an axis for the gate.
case("raw/lstm_joint_kernel", group=((5, 1),))(
    _lstm(
        lambda p, x, h: (
            jnp.einsum("bi,igh->gbh", jnp.concatenate([x, h], -1), p["k"]) + p["b"][:, None]
        ),
        {"k": (N_IN + 5, 4, 5), "b": (4, 5)},
    )
)

# S_5, one matrix for each gate.
case("raw/lstm_separate", group=((5, 1),))(
    _lstm(
        lambda p, x, h: [x @ p["x"][k] + h @ p["h"][k] + p["b"][k] for k in "ifgo"],
        {
            "x": {k: (N_IN, 5) for k in "ifgo"},
            "h": {k: (5, 5) for k in "ifgo"},
            "b": {k: (5,) for k in "ifgo"},
        },
    )
)


def _run_lstm(p, x, n, reverse=False):
    def step(carry, xt):
        c, h = carry
        i, f, g, o = jnp.split(_pre(p, xt, h), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    zero = jnp.zeros((x.shape[1], n), x.dtype)
    return lax.scan(step, (zero, zero), x, reverse=reverse)[1]


def _lstm_shapes(i, n):
    return {"x": (i, 4 * n), "h": (n, 4 * n), "b": (4 * n,)}


@case("raw/lstm_bidirectional", group=((5, 1), (4, 1)))
def lstm_bidirectional(key):
    # S_5 forwards, S_4 backwards, read side by side.
    def fn(p, x):
        ahead, back = _run_lstm(p["ahead"], x, 5), _run_lstm(p["back"], x, 4, reverse=True)
        return jnp.concatenate([ahead, back], axis=-1) @ p["out"]

    shapes = {"ahead": _lstm_shapes(N_IN, 5), "back": _lstm_shapes(N_IN, 4), "out": (9, 2)}
    return fn, draw(key, shapes), data(key, (T, B, N_IN))


@case("raw/lstm_stacked", group=((5, 1), (4, 1)))
def lstm_stacked(key):
    # S_5 and S_4, one for each layer; the second runs on the flipped sequence.
    def fn(p, x):
        h = _run_lstm(p[1], jnp.flip(_run_lstm(p[0], x, 5), axis=0), 4)
        return h[-1] @ p[2]

    return (
        fn,
        draw(key, [_lstm_shapes(N_IN, 5), _lstm_shapes(5, 4), (4, 2)]),
        data(key, (T, B, N_IN)),
    )


@case("raw/lstm_peephole", group=((5, 1),))
def lstm_peephole(key):
    # S_5: peepholes are one weight per unit and gate, packed as rows.
    def fn(p, x):
        def step(carry, xt):
            c, h = carry
            i, f, g, o = jnp.split(_pre(p, xt, h), 4, -1)
            i, f = jax.nn.sigmoid(i + p["peep"][0] * c), jax.nn.sigmoid(f + p["peep"][1] * c)
            c = f * c + i * jnp.tanh(g)
            return (c, jax.nn.sigmoid(o + p["peep"][2] * c) * jnp.tanh(c)), None

        zero = jnp.zeros((B, 5), x.dtype)
        return lax.scan(step, (zero, zero), x)[0][1] @ p["out"]

    return (
        fn,
        draw(key, _lstm_shapes(N_IN, 5) | {"peep": (3, 5), "out": (5, 2)}),
        data(key, (T, B, N_IN)),
    )


@case("raw/gru_two_biases", group=((5, 1),))
def gru_two_biases(key):
    # S_5: three packed gates, a bias on either side (both count: one sits inside the reset gate).
    def fn(p, x):
        def step(h, xt):
            xr, xz, xn = jnp.split(affine(p["x"], xt), 3, axis=-1)
            hr, hz, hn = jnp.split(affine(p["h"], h), 3, axis=-1)
            z = jax.nn.sigmoid(xz + hz)
            h = (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h
            return h, h

        return lax.scan(step, jnp.zeros((B, 5), x.dtype), x)[1] @ p["out"]

    shapes = {"x": ((N_IN, 15), (15,)), "h": ((5, 15), (15,)), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (T, B, N_IN))


@case("raw/gru_partly_packed", group=((5, 1),))
def gru_partly_packed(key):
    # S_5: reset and update packed, candidate apart, update gate taken by index.
    def fn(p, x):
        h = jnp.zeros((B, 5), x.dtype)
        for t in range(T):
            gates = jax.nn.sigmoid(jnp.concatenate([x[t], h], -1) @ p["gates"]).reshape(B, 2, 5)
            new = jnp.tanh(jnp.concatenate([x[t], gates[:, 0] * h], -1) @ p["new"])
            h = h + gates[:, 1] * (new - h)
        return h @ p["out"]

    shapes = {"gates": (N_IN + 5, 10), "new": (N_IN + 5, 5), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (T, B, N_IN))


@case("raw/linear_recurrence", group=((5, 1), (4, 1)))
def linear_recurrence(key):
    # S_5 complex states (modulus, phase, rows in and out), scanned associatively; S_4.
    def fn(p, x):
        decay = jnp.exp(-jnp.exp(p["modulus"]) + 1j * p["phase"])
        drive = x @ lax.complex(p["in_real"], p["in_imag"])

        def join(a, b):
            return a[0] * b[0], b[0] * a[1] + b[1]

        decay = jnp.broadcast_to(decay, drive.shape)
        h = lax.associative_scan(join, (decay, drive), axis=0)[1]
        y = (h @ lax.complex(p["out_real"], p["out_imag"])).real
        return jnp.sin(y) @ p["read"]

    shapes = {
        "modulus": (5,), "phase": (5,), "in_real": (N_IN, 5), "in_imag": (N_IN, 5),
        "out_real": (5, 4), "out_imag": (5, 4), "read": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, B, N_IN))


@case("raw/selective_state_space", group=((4, 1), (3, 1)))
def selective_state_space(key):
    # S_4 channels; S_3 states, one set for all channels since B and C are shared between them.
    def fn(p, x):
        u = jax.nn.silu(x @ p["in"])
        step_size = jax.nn.softplus(u * p["dt"] + p["dt_bias"])
        into, read = u @ p["b"], u @ p["c"]

        def step(h, now):
            ut, dt, bt, ct = now
            h = (
                jnp.exp(-jnp.exp(p["log_a"]) * dt[..., None]) * h
                + (dt * ut)[..., None] * bt[:, None]
            )
            return h, jnp.einsum("bdn,bn->bd", h, ct)

        y = lax.scan(step, jnp.zeros((B, 4, 3), x.dtype), (u, step_size, into, read))[1]
        return (y + u * p["d"]) @ p["out"]

    shapes = {
        "in": (N_IN, 4), "dt": (4,), "dt_bias": (4,), "b": (4, 3), "c": (4, 3),
        "log_a": (4, 3), "d": (4,), "out": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (T, B, N_IN))
