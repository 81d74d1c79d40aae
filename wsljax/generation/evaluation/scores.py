"""How good networks are: metrics on data by name, or any score of one network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...zoo.chunks import map_chunks
from ...zoo.evaluation.metrics import METRICS
from ...zoo.population import Population

LARGER_IS_BETTER = ("accuracy", "psnr")
AT_ONCE = 256

Scores = Sequence[str] | Mapping[str, Callable[..., Any] | str]


class Scoring:
    """Scores by name; the first is the quality.

    Args:
        scores: names of `zoo.METRICS`, measured on outputs and targets; or a mapping from a name to
            `score(params) -> scalar` of one network (larger is better), or to the name of a metric.
        targets: what metrics compare outputs with, or None.

    Raises:
        ValueError: no scores, an unknown metric, or a metric without targets.
    """

    def __init__(self, scores: Scores, targets: Any = None):
        named = scores if isinstance(scores, Mapping) else {name: name for name in scores}
        if not named:
            raise ValueError("`scores` is empty; the first one is the quality of a network.")
        for name, score in named.items():
            if isinstance(score, str) and score not in METRICS:
                raise ValueError(
                    f"`scores`: {score!r} is no metric; there are {', '.join(sorted(METRICS))}, or "
                    "give a function of one network's params."
                )
            if isinstance(score, str) and targets is None:
                raise ValueError(f"the score {name!r} needs `data=(inputs, targets)`.")
        self.scores = dict(named)
        self.targets = None if targets is None else jnp.asarray(targets)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.scores)

    def sign(self, name: str) -> int:
        """1 where larger is better, else -1."""
        score = self.scores[name]
        return -1 if isinstance(score, str) and score not in LARGER_IS_BETTER else 1

    def measure(self, population: Population, outputs: np.ndarray | None) -> dict[str, np.ndarray]:
        """Every score of every network, `{name: (models,)}`."""
        found = {}
        chunk = min(AT_ONCE, len(population))
        for name, score in self.scores.items():
            if isinstance(score, str):
                values = map_chunks(
                    _each(METRICS[score], 1), jnp.asarray(outputs), self.targets, chunk=chunk
                )
            else:
                values = map_chunks(_each(score, 0), population.params, chunk=chunk)
            if np.shape(values) != (len(population),):
                raise ValueError(
                    f"the score {name!r} has shape {np.shape(values)[1:]} for one network; it must be a "
                    "number."
                )
            found[name] = np.asarray(values, np.float64)
        return found


@functools.lru_cache(maxsize=64)
def _each(score: Callable[..., Any], shared: int) -> Callable[..., Any]:
    """One object for a score, so that it is compiled once for all networks."""
    return jax.vmap(score, in_axes=(0, *[None] * shared))
