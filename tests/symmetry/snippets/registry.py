"""Small functions that have misled permutation inference, or might.

Each has the log of the number of its permutations where that was derived by hand, else None: then only
soundness is asked.
"""

from collections.abc import Callable
from math import lgamma
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

RANDOM = np.random.default_rng(0)


class Snippet(NamedTuple):
    fn: Callable
    params: Any
    inputs: tuple
    log_order: float | None


SNIPPETS: dict[str, Snippet] = {}


def A(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape)


def P(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: A(*shape) for name, shape in shapes.items()}


X = A(7, 3)


def S(*sizes: int) -> float:
    """The log of the order of a product of symmetric groups."""
    return sum(lgamma(n + 1) for n in sizes)


def snippet(log_order: float | None, params: Any, *inputs: Any) -> Callable:
    """Decorator: registers a function of ``params`` and ``inputs``."""

    def register(fn: Callable) -> Callable:
        assert fn.__name__ not in SNIPPETS, fn.__name__
        SNIPPETS[fn.__name__] = Snippet(fn, params, inputs, log_order)
        return fn

    return register


def M(name: str, n: int, m: int, f: Callable, log_order: float | None) -> None:
    """A layer of ``n`` units, ``f`` of it, and a linear layer of ``m`` inputs."""

    def fn(p, x):
        return f(jnp.tanh(x @ p["w"] + p["b"])) @ p["o"]

    fn.__name__ = name
    snippet(log_order, P(w=(3, n), b=(n,), o=(m, 2)), X)(fn)


def C(name: str, log_order: float | None, fn: Callable, params: Any, *inputs: Any) -> None:
    """A network."""
    fn.__name__ = name
    snippet(log_order, params, *inputs)(fn)
