"""Whether networks still are what was recorded of them: run some, and compare."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax.zoo.chunks import map_chunks
from wsljax.zoo.evaluation.metrics import METRICS
from wsljax.zoo.population import Population


class FunctionMismatch(ValueError):
    """Networks that, run again, do not have the metrics recorded of them."""


class Evaluation:
    """Data that metrics were measured on, and which.

    Attributes:
        inputs: `(n, *input_shape)`.
        targets: `(n, ...)`.
        columns: column of a population -> metric, a name in `zoo.METRICS`.
        tolerance: how far a metric that is measured again may be from what was recorded, relative
            to `1 + |recorded|`.
        own_targets: a column that says which row of `targets` is a network's own (an INR's image);
            then `targets` is `(signals, n, ...)`.

    Example:
        >>> Evaluation(np.zeros((5, 64)), np.zeros(5, int), {"test_accuracy": "accuracy"})
        Evaluation(5 inputs; test_accuracy: accuracy)
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        columns: Mapping[str, str],
        *,
        tolerance: float = 1e-3,
        own_targets: str | None = None,
    ):
        """See the class.

        Raises:
            ValueError: an unknown metric, no columns, or inputs and targets of other lengths.
        """
        unknown = {name: metric for name, metric in columns.items() if metric not in METRICS}
        if unknown or not columns:
            raise ValueError(
                f"columns: {unknown or 'none'}; the metrics are {', '.join(sorted(METRICS))}."
            )
        axis = 0 if own_targets is None else 1
        if np.ndim(targets) <= axis or len(inputs) != np.shape(targets)[axis]:
            raise ValueError(
                f"inputs {np.shape(inputs)} and targets {np.shape(targets)} do not go together."
            )
        self.inputs, self.targets = inputs, targets
        self.columns, self.tolerance = dict(columns), float(tolerance)
        self.own_targets = own_targets

    def measure(self, population: Population, *, chunk: int | None = None) -> dict[str, np.ndarray]:
        """The metrics of all networks, `{column: (models,)}`.

        Raises:
            ValueError: the population has no function, or a column is missing that is read.
        """
        inputs, targets = jnp.asarray(self.inputs), jnp.asarray(self.targets)
        names = list(population.function.reads) if population.function is not None else []
        names += [self.own_targets] * (self.own_targets is not None)
        missing = [name for name in names if name not in population.columns]
        if missing:
            raise ValueError(f"columns {missing} are needed to run these networks.")

        rows = {name: jnp.asarray(population.columns[name]) for name in names}
        metrics = tuple((metric, METRICS[metric]) for metric in sorted(set(self.columns.values())))
        run = _measuring(population.function, metrics, self.own_targets)
        found = map_chunks(run, (population.params, rows), inputs, targets, chunk=chunk)
        return {name: np.asarray(found[metric]) for name, metric in self.columns.items()}

    def __repr__(self) -> str:
        what = ", ".join(f"{name}: {metric}" for name, metric in self.columns.items())
        return f"Evaluation({len(self.inputs)} inputs; {what})"


@functools.lru_cache(maxsize=64)
def _measuring(function: Any, metrics: tuple, own_targets: str | None) -> Any:
    """The metrics of a stack of networks; one object, so that it is compiled once for all chunks."""

    def run(models, inputs, targets):
        params, rows = models
        outputs = Population(params, rows, function=function).apply(inputs)
        mine = targets[rows[own_targets]] if own_targets else targets
        axes = (0, 0 if own_targets else None)
        return {name: jax.vmap(metric, in_axes=axes)(outputs, mine) for name, metric in metrics}

    return run


def verify(
    population: Population,
    evaluation: Evaluation,
    *,
    sample: int | None = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Run some networks again and compare their metrics with those recorded.

    Args:
        population: with a function and the columns of the evaluation.
        evaluation: what the metrics were measured on.
        sample: how many networks, drawn without regard to anything; None: all.
        seed: of the draw.

    Returns:
        The largest difference for each column.

    Raises:
        FunctionMismatch: a metric differs by more than the tolerance; names network, column and both
            values. The weights, or padding, activation, normalisation or another setting of the
            function, are not those of the recorded networks.
        ValueError: no function, or a column is missing.

    Example:
        >>> from wsljax.zoo.function import Function
        >>> params = {"dense_0": {"kernel": jnp.ones((1, 2, 2)), "bias": jnp.zeros((1, 2))}}
        >>> zoo = Population(params, {"error": [4.0]}, function=Function("mlp", {"widths": (2, 2)}))
        >>> data = Evaluation(np.ones((3, 2)), np.zeros((3, 2)), {"error": "mse"})
        >>> verify(zoo, data)
        {'error': 0.0}
        >>> try: verify(zoo.with_columns({"error": [0.5]}), data)
        ... except FunctionMismatch as e: print(str(e)[:58])
        network 0 was recorded with error = 0.5 and has 4 (mse now
    """
    missing = [name for name in evaluation.columns if name not in population.columns]
    if missing:
        raise ValueError(f"the population has no columns {missing} to compare with.")
    index = np.arange(len(population))
    if sample is not None and sample < len(index):
        index = np.sort(np.random.default_rng(seed).choice(index, sample, replace=False))
    if not len(index):
        return dict.fromkeys(evaluation.columns, 0.0)
    part = population.take(index)
    found = evaluation.measure(part, chunk=1)  # one at a time: an evaluation may be large
    largest = {}
    for name, values in found.items():
        recorded = np.asarray(part.columns[name], np.float64)
        apart = np.abs(values - recorded)
        apart = np.where(np.isnan(values) & np.isnan(recorded), 0.0, apart)
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        if not apart[worst] <= evaluation.tolerance * (1 + abs(recorded[worst])):
            raise FunctionMismatch(
                f"network {index[worst]} was recorded with {name} = {recorded[worst]:.6g} and has "
                f"{values[worst]:.6g} ({evaluation.columns[name]} now, on {len(evaluation.inputs)} "
                f"inputs): weights or function are not those that were recorded. It was run as "
                f"{population.function!r}."
            )
        largest[name] = float(apart[worst])
    return largest
