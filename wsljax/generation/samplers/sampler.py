"""What all samplers have in common."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from ..processes.path import Path
from .field import Field


class Sampler(eqx.Module):
    """From noise to a network: a pure program for one of them."""

    @abc.abstractmethod
    def __call__(self, field: Field, x: Any, *, key: jax.Array) -> Any:
        """`x` at time 1, pure noise, to `x` at time 0."""


class SteppedSampler(Sampler):
    """A sampler that goes through given times, in one scan.

    Attributes:
        steps: how many.
        times: `times(path, steps)`, from 1 down to 0, `(steps + 1,)`; by default the usual ones of the path.
    """

    steps: eqx.AbstractVar[int]
    times: eqx.AbstractVar[Callable[[Path, int], jax.Array] | None]

    def __check_init__(self):
        if self.steps < 1:
            raise ValueError(f"`steps` is {self.steps}; a sampler takes at least one.")

    @abc.abstractmethod
    def step(self, field: Field, x: Any, t: jax.Array, to: jax.Array, key: jax.Array) -> Any:
        """From time `t` to the earlier time `to`."""

    def grid(self, path: Path) -> jax.Array:
        """The times."""
        return path.times(self.steps) if self.times is None else self.times(path, self.steps)

    def __call__(self, field: Field, x: Any, *, key: jax.Array) -> Any:
        grid = self.grid(field.path)

        def one(x: Any, step: Any) -> tuple[Any, None]:
            t, to, number = step
            x = self.step(field, x, t, to, jax.random.fold_in(key, number))
            return field.settle(x), None

        numbers = jax.numpy.arange(grid.shape[0] - 1)
        return jax.lax.scan(one, x, (grid[:-1], grid[1:], numbers))[0]
