"""`Audit`: what training and held-out networks are like, measured once, and reports on others beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ...train.metrics import Interval
from ...zoo.population import Population
from . import measures
from .flags import flags_of_measures, flags_of_populations, flags_of_samples
from .nearest import Nearest, nearest_of, nearest_rows
from .networks import RUN, as_population, finite_rows, host, runs_of, taken, weight_rows
from .novelty import COPY, Novelty, new_and_good, usual_distance
from .predictions import disagreement, outputs_of, wrong_overlap
from .quotient import Quotient, Settled
from .report import Report
from .scores import Scores, Scoring
from .statistics import interval, mean


class Known(NamedTuple):
    """Networks with all that is compared: everything has one row for each finite network.

    Attributes:
        rows: weights `(models, size)`.
        settled: for the quotient.
        outputs: `(models, n, ...)`, or None.
        classes: `(models, n)`, where it is classification, else None.
        scores: `{name: (models,)}`.
        runs: of each.
    """

    rows: np.ndarray
    settled: Settled
    outputs: np.ndarray | None
    classes: np.ndarray | None
    scores: dict[str, np.ndarray]
    runs: np.ndarray

    def take(self, index: np.ndarray) -> Known:
        of = lambda x: None if x is None else x[index]  # noqa: E731
        scores = {n: x[index] for n, x in self.scores.items()}
        return Known(
            self.rows[index], self.settled.take(index), of(self.outputs), of(self.classes), scores,
            self.runs[index],
        )  # fmt: skip


class Audit:
    """Training and held-out networks, ready for reports on others; arguments as in `evaluate`.

    `evaluate` makes one for a single report; several sets of samples share one (as `compare` does).
    """

    def __init__(
        self,
        training: Any,
        held_out: Any,
        *,
        key: jax.Array,
        data: tuple[Any, Any] | None = None,
        probes: Any = None,
        function: Callable[..., Any] | None = None,
        scores: Scores = ("accuracy", "cross_entropy"),
        spec: Any = None,
        ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        bars: Sequence[float] = (0.1, 0.5),
        candidates: int | None = 32,
        sampled: int = 1024,
        diversity: int = 128,
        resamples: int = 1000,
    ):
        """See the class and `evaluate`."""
        self.training = as_population(training, what="training")
        self.held_out = as_population(held_out, self.training, "held_out")
        for name, networks in (("training", self.training), ("held_out", self.held_out)):
            if not finite_rows(networks.params).all():
                raise ValueError(
                    f"`{name}` holds networks with NaN or infinite weights; see `zoo.finite_members`."
                )
        if len(self.training) < 2:
            raise ValueError(
                "`training` needs two networks at least, to be compared with each other."
            )
        inputs, targets = data if data is not None else (probes, None)
        if sampled < 2:
            raise ValueError(f"`sampled` is {sampled}; it is a number of networks, two at least.")
        self.inputs, self.function, self.sampled = inputs, function, sampled
        self.targets = None if targets is None else np.asarray(targets)
        self.scoring = Scoring(scores, targets)
        self.key, self.resamples = key, resamples
        self.ratios, self.bars, self.diversity = tuple(ratios), tuple(bars), diversity
        spec = self.training.spec if spec is None else spec
        self.spec = spec
        first = taken(host(self.training.params), 0)
        self.quotient = Quotient(first, spec, key=jax.random.fold_in(key, 1), candidates=candidates)
        self._runs_known = all(RUN in p.columns for p in (self.training, self.held_out))
        self._known = {
            "training": self._know(self.training),
            "held_out": self._know(self.held_out),
        }
        self.flags = flags_of_populations(self.training, self.held_out)
        self._usual = self._distances_of_training()
        self._reference: dict[tuple[str, bytes], Any] = {}

    # ------------------------------------------------------------------ reports
    def report(self, samples: Any, name: str = "samples") -> Report:
        """Judge these networks; see `evaluate`."""
        population = as_population(samples, self.training)
        finite = finite_rows(population.params)
        if not finite.any():
            flag = f"not_finite: all {len(finite)} networks have NaN or infinite weights"
            return Report(name, len(finite), {}, {}, (*self.flags, flag))
        known = self._know(population.take(np.flatnonzero(finite)))
        return self._judge(known, finite, name, self._known["held_out"])

    def held_out_report(self, name: str = "held-out networks") -> Report:
        """Judge the held-out networks as samples: the level that a perfect generator has.

        Of 1-NNA, coverage, MMD and the energy distance, one half of them is compared with the other.
        """
        held_out = self._known["held_out"]
        order = np.asarray(jax.random.permutation(self._key("halves"), len(held_out.rows)))
        half = len(order) // 2
        parts = (held_out.take(order[:half]), held_out.take(order[half:])) if half else None
        return self._judge(held_out, np.ones(len(order), bool), name, held_out, parts)

    def _judge(
        self,
        known: Known,
        finite: np.ndarray,
        name: str,
        reference: Known,
        halves: tuple[Known, Known] | None = None,
    ) -> Report:
        training = self._known["training"]
        is_held_out = known is reference
        values: dict[str, Interval] = {}
        columns = {name_: _spread(x, finite) for name_, x in known.scores.items()}
        values |= measures.quality(self, known, finite)
        groups = (known.runs, training.runs) if is_held_out and self._runs_known else None
        novelty = {
            "weights": self._novelty("weights", known, groups),
            "quotient": self._novelty("quotient", known, groups),
        }
        overlap, held_out_overlap = None, None
        if known.classes is not None:
            novelty["predictions"] = self._novelty("predictions", known, groups)
            overlap = self._overlap(known, groups)
            held_out_overlap = float(self._overlap(reference, None).mean())
            columns["wrong_overlap"] = _spread(overlap, finite)
        elif known.outputs is not None:
            novelty["outputs"] = self._novelty("outputs", known, groups)
        for where, found in novelty.items():
            values |= measures.novelty(self, where, found)
            columns[f"{where}_distance"] = _spread(found.nearest.distance, finite)
            columns[f"{where}_ratio"] = _spread(found.ratios, finite)
        values |= measures.overlap(self, overlap, held_out_overlap)
        values |= self._new_and_good(columns, known, finite)
        pair = halves if halves is not None else (known, reference)
        values |= measures.diversity(self, *pair)
        values |= measures.together(self, known)
        ratios = novelty["quotient"].ratios
        flags = flags_of_samples(finite, known.rows, ratios, COPY, novelty["weights"].usual)
        if not is_held_out:
            test = measures.copying(novelty["quotient"])
            flags += flags_of_measures(test, novelty["quotient"].nearest, held_out_overlap)
        return Report(name, len(finite), values, columns, (*self.flags, *flags))

    def _new_and_good(self, columns, known: Known, finite: np.ndarray) -> dict[str, Interval]:
        quality = self.scoring.names[0]
        sign = self.scoring.sign(quality)
        trained = sign * self._known["training"].scores[quality]
        own = _spread(sign * known.scores[quality], finite)
        out = {}
        for bar in self.bars:
            level = float(np.quantile(trained, bar))
            for ratio in self.ratios:
                found = new_and_good(columns["quotient_ratio"], own, ratio, level)
                name = f"new and good/ratio {ratio:g}, {quality} of the best {1 - bar:.0%}"
                out[name] = self.interval(mean, found)
        return out

    # ------------------------------------------------------------------ what is measured of networks
    def _know(self, population: Population) -> Known:
        outputs: np.ndarray | None = None
        if self.inputs is not None:
            outputs = outputs_of(population, self.inputs, self.function)
        classes = None
        if self.targets is not None and outputs is not None:
            integer = np.issubdtype(self.targets.dtype, np.integer)
            if integer and outputs.ndim == self.targets.ndim + 2:
                classes = outputs.argmax(-1).reshape(len(population), -1)
        params = host(population.params)
        return Known(
            weight_rows(params),
            self.quotient.settle(params),
            outputs,
            classes,
            self.scoring.measure(population, outputs),
            runs_of(population),
        )

    def _distances_of_training(self) -> dict[str, Any]:
        training, held_out = self._known["training"], self._known["held_out"]
        runs = training.runs
        if len(np.unique(runs)) == 1:  # flagged: then at least not with itself
            runs = np.arange(len(runs))
        chosen = np.arange(len(runs))
        if len(runs) > self.sampled:  # every distance would be the square of a large zoo
            chosen = np.asarray(jax.random.permutation(self._key("usual"), len(runs)))[
                : self.sampled
            ]
        some = training.take(chosen)
        among, others = (runs[chosen], runs), (held_out.runs, training.runs)
        names = ["weights", "quotient"]
        if training.outputs is not None:
            names.append("outputs" if training.classes is None else "predictions")
        if not self._runs_known:
            others = None
        return {
            n: (
                usual_distance(self._nearest(n, some, among)),
                self._nearest(n, held_out, others).distance,
            )
            for n in names
        }

    def _novelty(self, where: str, known: Known, groups) -> Novelty:
        usual, held_out = self._usual[where]
        return Novelty(self._nearest(where, known, groups), usual, held_out)

    def _nearest(self, where: str, known: Known, groups) -> Nearest:
        training = self._known["training"]
        if where == "weights":
            return nearest_rows(known.rows, training.rows, groups)
        if where == "quotient":
            return self.quotient.nearest(known.settled, training.settled, groups)
        if where == "outputs":
            assert known.outputs is not None and training.outputs is not None
            own, others = (x.reshape(len(x), -1) for x in (known.outputs, training.outputs))
            return nearest_rows(own, others, groups)
        assert known.classes is not None and training.classes is not None
        return nearest_of(disagreement(known.classes, training.classes), groups)

    def _overlap(self, known: Known, groups) -> np.ndarray:
        training = self._known["training"]
        targets = self.targets.reshape(-1)  # type: ignore[union-attr]
        found = wrong_overlap(known.classes != targets, training.classes != targets)
        if groups is not None:
            found = np.where(groups[0][:, None] == groups[1][None], 0.0, found)
        return found.max(axis=1)

    # ------------------------------------------------------------------ small parts
    def known(self, part: str) -> Known:
        """What is known of "training" or "held_out" networks."""
        return self._known[part]

    def matrices(self, where: str, samples: Known, reference: Known) -> Any:
        """Distances within samples, within the reference and across, or None; the second is kept."""
        across = measures.distances(self, where, samples, reference)
        if across is None:
            return None
        within = measures.distances(self, where, samples, samples)
        at = (where, reference.rows.tobytes())
        if at not in self._reference:
            self._reference[at] = measures.distances(self, where, reference, reference)
        return within, self._reference[at], across

    def interval(self, metric: Callable[..., Any], values: np.ndarray) -> Interval:
        """A bootstrap interval with the audit's key."""
        return interval(metric, values, key=self._key("resamples"), resamples=self.resamples)

    def subset(self, known: Known, size: int, what: str) -> Known:
        """So many of these networks, drawn without replacement; in the given order if that is all."""
        if size >= len(known.rows):
            return known
        index = jax.random.permutation(self._key(what), len(known.rows))[:size]
        return known.take(np.sort(np.asarray(index)))

    def _key(self, what: str) -> jax.Array:
        return jax.random.fold_in(self.key, sum(map(ord, what)))


def _spread(values: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """One value for each network again; NaN for those that are not finite."""
    out = np.full(len(finite), np.nan)
    out[finite] = values
    return out
