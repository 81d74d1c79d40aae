"""Torch's ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``: packed gates, layers, both directions, projections.

Sequences are (batch, tokens, features); states start at zero; the outputs of every step are returned.
Gates stay packed in torch's order: input, forget, cell, output; reset, update, new.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..tensors import DENSE
from .modules import Built, Flow, Shapes, row

CELLS = {4: "lstm", 3: "gru", 1: "rnn"}
LEAVES = {"weight_ih": "input/kernel", "weight_hh": "hidden/kernel", "weight_hr": "project/kernel"}
BIASES = {"bias_ih": "input/bias", "bias_hh": "hidden/bias"}


def recurrent(name: str, shapes: Shapes, flow: Flow, *, nonlinearity: str | None = None) -> Built:
    """Rows under ``l0``, ``l0_reverse``, ...; which cell it is follows from the number of gates.

    Args:
        nonlinearity: "tanh" or "relu", for ``nn.RNN`` alone, which does not tell.
    """
    places = [sub.removeprefix("weight_hh_") for sub in shapes if sub.startswith("weight_hh_")]
    depth = 1 + max(int(re.sub(r"\D", "", place)) for place in places)
    names = [[p for p in (f"l{i}", f"l{i}_reverse") if p in places] for i in range(depth)]
    rows = []
    for place in places:
        for sub, leaf in LEAVES.items():
            if f"{sub}_{place}" in shapes:
                rows.append(row(name, f"{sub}_{place}", f"{place}/{leaf}", DENSE))
        for sub, leaf in BIASES.items():
            if f"{sub}_{place}" in shapes:
                rows.append(row(name, f"{sub}_{place}", f"{place}/{leaf}"))
    projected = shapes.get("weight_hr_l0")
    hidden = projected[1] if projected else shapes["weight_hh_l0"][1]
    gates = shapes["weight_hh_l0"][0] / hidden
    if gates not in CELLS:
        raise ValueError(f"module {name!r}: {gates} gates; LSTM has 4, GRU 3, RNN 1")
    cell = CELLS[int(gates)]
    if cell == "rnn" and nonlinearity not in ("tanh", "relu"):
        raise ValueError(
            f"module {name!r} is an nn.RNN, whose weights do not tell its nonlinearity: pass "
            "nonlinearity='tanh' or 'relu'"
        )
    act = jax.nn.relu if nonlinearity == "relu" else jnp.tanh

    def apply(p: Any, x: jax.Array) -> jax.Array:
        for layer in names:
            both = [
                _run(p[place], x, cell, hidden, act, place.endswith("reverse")) for place in layer
            ]
            x = jnp.concatenate(both, axis=-1) if len(both) > 1 else both[0]
        return x

    return Built(rows, apply)


def _run(p: Any, x: jax.Array, cell: str, size: int, act: Any, reverse: bool) -> jax.Array:
    """One layer in one direction, (batch, tokens, in) -> (batch, tokens, out)."""
    read = _affine(p["input"], x).swapaxes(0, 1)
    sizes = [p["hidden"]["kernel"].shape[0], *([size] if cell == "lstm" else [])]
    start = tuple(jnp.zeros((x.shape[0], n), read.dtype) for n in sizes)

    def step(state: tuple, z: jax.Array) -> tuple:
        h = state[0]
        r = _affine(p["hidden"], h)
        if cell == "rnn":
            h = act(z + r)
            return (h,), h
        if cell == "gru":
            (za, zb, zn), (ra, rb, rn) = jnp.split(z, 3, axis=-1), jnp.split(r, 3, axis=-1)
            reset, update = jax.nn.sigmoid(za + ra), jax.nn.sigmoid(zb + rb)
            h = (1 - update) * jnp.tanh(zn + reset * rn) + update * h
            return (h,), h
        i, f, g, o = jnp.split(z + r, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        h = h @ p["project"]["kernel"] if "project" in p else h
        return (h, c), h

    return lax.scan(step, start, read, reverse=reverse)[1].swapaxes(0, 1)


def _affine(p: Any, x: jax.Array) -> jax.Array:
    y = x @ p["kernel"]
    return y + p["bias"] if "bias" in p else y
