"""The sine of SIRENs in training: on CPUs, where XLA's own takes most of the time of a step.

Functions use `jnp.sin`. While a population trains on a CPU in float32, a polynomial takes its place:
sine and cosine by one reduction to [-pi/2, pi/2] (Cody and Waite 1980, with pi in three parts) and the
Taylor series to the last bit. Over |x| < 1,000 it is within 3e-7 of the sine; the cosine, which the
backward pass needs, comes along for nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np

_QUICK = contextvars.ContextVar("quick_sine", default=False)
PI_PARTS = (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7)


@contextlib.contextmanager
def quick_sine() -> Iterator[None]:
    """What is traced inside may take `sine` by polynomial; only the trainer says so."""
    token = _QUICK.set(True)
    try:
        yield
    finally:
        _QUICK.reset(token)


def sine(x: jax.Array) -> jax.Array:
    """`jnp.sin(x)`, or its polynomial under `quick_sine`, in float32.

    >>> x = jnp.linspace(-100, 100, 10_001)
    >>> with quick_sine(): bool(jnp.max(jnp.abs(sine(x) - jnp.sin(x))) < 3e-7)
    True
    """
    return _by_polynomial(x) if _QUICK.get() and x.dtype == jnp.float32 else jnp.sin(x)


@jax.custom_jvp
def _by_polynomial(x: jax.Array) -> jax.Array:
    return _both(x)[0]


@_by_polynomial.defjvp
def _derivative(primals, tangents):
    sin, cos = _both(primals[0])
    return sin, cos * tangents[0]


def _both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    turns = jnp.round(x * np.float32(1 / np.pi))
    rest = x
    for part in PI_PARTS:
        rest = rest - turns * np.float32(part)
    rest = jnp.clip(rest, -1.6, 1.6)  # far out, where the reduction fails, it stays bounded
    square = rest * rest
    sign = 1 - 2 * (turns - 2 * jnp.floor(turns * np.float32(0.5)))
    sin = rest * _series(square, [1 / factorial(2 * k + 1) for k in range(6)])
    cos = _series(square, [1 / factorial(2 * k) for k in range(7)])
    return sign * sin, sign * cos


def _series(square: jax.Array, coefficients: list[float]) -> jax.Array:
    """The alternating series, by Horner's rule."""
    total = jnp.full_like(square, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = np.float32(c) - square * total
    return total
