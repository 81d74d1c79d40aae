"""The baselines that every result on predicting a property of networks should stand beside.

Hyperparameters alone, seven numbers over all weights, and the statistics of each tensor, each with a
linear predictor, trees and a small dense network: what they reach needs no weight space learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax import train
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.split import Split

from .predictors import fit_mlp, fit_ridge, fit_trees
from .statistics import statistics

METRICS = {"r2": train.r2, "kendall": train.kendall_tau, "spearman": train.spearman}

PREDICTORS: Mapping[str, Callable] = {"ridge": fit_ridge, "trees": fit_trees, "mlp": fit_mlp}
"""What `evaluate_baselines` fits; each is `fit(x, y, *, key, validation) -> predictor`."""


def score(
    prediction: Any, truth: Any, *, key: jax.Array, resamples: int = 1000, level: float = 0.95
) -> dict[str, train.Interval]:
    """R2, Kendall's tau-b and Spearman's rho with percentile bootstrap intervals over networks.

    The same key and number of networks give the same resamples, so that rows are comparable.

    Args:
        prediction, truth: one number a network.
        key: a typed key.
        resamples: of the bootstrap.
        level: the mass of the interval.

    Returns:
        `{"r2", "kendall", "spearman"}`, each an `Interval` of value, low and high.

    Example:
        >>> truth = jnp.linspace(0.0, 1.0, 20)
        >>> print(score(truth, truth, key=jax.random.key(0), resamples=10)["kendall"])
        1.000 [1.000, 1.000]
    """
    columns = tuple(jnp.asarray(np.asarray(column)) for column in (prediction, truth))
    dtype = jnp.result_type(*(c.dtype for c in columns), jnp.float32)
    columns = tuple(c.astype(dtype) for c in columns)
    return {
        name: train.bootstrap(metric, *columns, key=key, resamples=resamples, level=level)
        for name, metric in METRICS.items()
    }


def evaluate_baselines(
    population: Population,
    target: str,
    parts: Split,
    *,
    key: jax.Array,
    hyper: Sequence[str] | None = None,
    definition: str = "google",
    predictors: Mapping[str, Callable] | None = None,
    resamples: int = 1000,
    log: train.Log | None = None,
) -> list[dict[str, Any]]:
    """Fit every predictor to every trivial set of features and score it on the test networks.

    Fits see the training networks, and choose their stopping point by the validation networks; the test
    networks are looked at once.

    Args:
        population: the networks.
        target: the column to predict.
        parts: of a `Split`.
        key: a typed key.
        hyper: columns known before training, for the row of hyperparameters alone (default: those
            with the role "hyper"; no such row if there is none). Columns with labels become one
            indicator a label; positive ones that span more than a factor of 100 their logarithm.
        definition: of the statistics of each tensor; see `DEFINITIONS`.
        predictors: name -> fit (default: `PREDICTORS`, ridge, trees and a dense network).
        resamples: of the bootstrap.
        log: called as `log(done, row)` after each row.

    Returns:
        One dict of JSON values a row: `features`, `predictor`, `target`, `columns` (how many
        features), `networks` in each part, and `r2`, `kendall` and `spearman` as
        `[value, low, high]`.

    Raises:
        ValueError: an unknown column, or weights or targets that are not finite; says how many.
    """
    for name in (target, *(hyper or ())):
        if name not in population.columns:
            raise ValueError(
                f"there is no column {name!r}; there are {sorted(population.columns)}."
            )
    truth = np.asarray(population.columns[target], np.float32)
    fits = PREDICTORS if predictors is None else predictors
    sets = _features(population, _hyper(population, target, hyper), definition)
    for name, x in sets.items():
        bad = ~np.isfinite(np.column_stack([x, truth])).all(axis=1)
        if bad.any():
            raise ValueError(
                f"{name}: {bad.sum()} of {len(x)} networks have features or a {target!r} that are not "
                "finite; leave them out: `population.take(zoo.finite_members(population))`."
            )
    rows: list[dict[str, Any]] = []
    score_key, fit_key = jax.random.split(key)
    for name, x in sets.items():
        data = [(x[part], truth[part]) for part in parts]
        for number, (label, fit) in enumerate(fits.items()):
            predictor = fit(*data[0], key=jax.random.fold_in(fit_key, number), validation=data[1])
            found = score(predictor(data[2][0]), data[2][1], key=score_key, resamples=resamples)
            rows.append(
                {
                    "features": name,
                    "predictor": label,
                    "target": target,
                    "columns": x.shape[1],
                    "networks": {part: len(index) for part, index in parts._asdict().items()},
                    **{metric: list(map(float, interval)) for metric, interval in found.items()},
                }
            )
            if log is not None:
                log(len(rows), {metric: interval.value for metric, interval in found.items()})
    return rows


def hyper_features(population: Population, names: Sequence[str]) -> np.ndarray:
    """Columns as numbers `(networks, features)`: labels and words as indicators, wide scales as logs.

    >>> zoo = Population({"w": np.zeros((2, 1))}, {"rate": [1e-3, 1.0], "seed": [0, 1]})
    >>> hyper_features(zoo, ["rate"]).tolist()
    [[-3.0], [0.0]]
    """
    labels, out = dict(population.labels), []
    for name in names:
        column = np.asarray(population.columns[name])
        if name in labels or column.dtype.kind in "USb":
            values = np.arange(len(labels[name])) if name in labels else np.unique(column)
            out.append((column[:, None] == values).astype(np.float32))
            continue
        column = column.reshape(len(column), -1).astype(np.float64)
        if column.min() > 0 and column.max() > 100 * column.min():
            column = np.log10(column)
        out.append(column.astype(np.float32))
    return np.concatenate(out, axis=1)


def _hyper(population: Population, target: str, hyper: Sequence[str] | None) -> list[str]:
    if hyper is not None:
        return list(hyper)
    roles = dict(getattr(population, "roles", ()))
    return [name for name in population.columns if roles.get(name) == "hyper" and name != target]


def _features(
    population: Population, hyper: Sequence[str], definition: str
) -> dict[str, np.ndarray]:
    compute = partial(statistics, population)
    sets = {} if not hyper else {"hyperparameters": hyper_features(population, hyper)}
    sets["7 global statistics"] = np.asarray(compute("global"), np.float32)
    tensors = np.asarray(compute(definition), np.float32)
    return sets | {f"{tensors.shape[1]} statistics ({definition})": tensors}
