"""`evaluate`: everything about generated networks in one call, beside held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .audit import Audit
from .report import Report
from .scores import Scores


def evaluate(
    samples: Any,
    training: Any,
    held_out: Any,
    *,
    key: jax.Array,
    data: tuple[Any, Any] | None = None,
    probes: Any = None,
    function: Callable[..., Any] | None = None,
    scores: Scores = ("accuracy", "cross_entropy"),
    spec: Any = None,
    name: str = "samples",
    ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    bars: Sequence[float] = (0.1, 0.5),
    candidates: int | None = 32,
    sampled: int = 1024,
    diversity: int = 128,
    resamples: int = 1000,
) -> Report:
    """How good, how new and how diverse networks are.

    Nothing is selected: every sample counts, and the best one is reported beside mean and median only
    (chosen on the data that it is measured on, it is no estimate). Distances are Euclidean, of weights as they
    are (`weights`) and up to the symmetries of the spec (`quotient`, see `Quotient`), in units of the median
    distance of a training network to the nearest training network of another run.

    Args:
        samples: the networks to judge, a `Population` or stacked params.
        training: those that a generator was fitted to; its column `run` says which belong together.
        held_out: others of the same kind, from other runs.
        key: a typed key; decides matching, subsets and resamples.
        data: `(inputs, targets)` that no network was selected on; integer targets make it
            classification, and disagreement, wrong overlap and ensembles are reported.
        probes: inputs on which functions are compared where there are no targets, such as coordinates.
        function: `function(params, inputs) -> (n, ...)` of one network (default: the population's).
        scores: see `Scoring`; the first is the quality in N&P.
        spec: the symmetry of one network (default: that of `training`).
        name: of the samples.
        ratios: thresholds of N&P.
        bars: quantiles of the quality of training networks that N&P asks for.
        candidates: of the search in the quotient, see `Quotient`; None is exact.
        sampled: training networks, at most, drawn at random, whose nearest others give the unit of distance.
        diversity: networks of each kind in the matrices of distances behind 1-NNA, coverage and MMD.
        resamples: of bootstrap intervals.

    Returns:
        A `Report`.

    Raises:
        ValueError: networks of different shapes, no data for a metric, non-finite training networks.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import zoo
        >>> function = zoo.Function("mlp", {"widths": (2, 3)})
        >>> params = jax.vmap(lambda k: function.init(key=k))(jax.random.split(jax.random.key(0), 12))
        >>> networks = zoo.Population(params, {"run": jnp.arange(12)}, function=function)
        >>> data = jax.random.normal(jax.random.key(1), (20, 2)), jnp.arange(20) % 3
        >>> report = evaluate(
        ...     networks.take(slice(0, 6)), networks.take(slice(0, 6)), networks.take(slice(6, 12)),
        ...     data=data, scores=("accuracy",), key=jax.random.key(2), resamples=10,
        ... )
        >>> report["weights/ratio"], [flag.split(":")[0] for flag in report.flags]
        (0.0, ['copies', 'z_u_saturated'])
    """
    audit = Audit(
        training, held_out, key=key, data=data, probes=probes, function=function, scores=scores,
        spec=spec, ratios=ratios, bars=bars, candidates=candidates, sampled=sampled,
        diversity=diversity, resamples=resamples,
    )  # fmt: skip
    return audit.report(samples, name)
