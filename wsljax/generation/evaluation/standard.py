"""`Standard`: training and held-out networks with all that others are measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ...train.metrics import Interval
from ...zoo.population import Population
from .flags import flags_of_populations
from .known import Known
from .nearest import Nearest, euclidean, nearest_of, nearest_rows
from .networks import RUN, as_population, finite_rows, host, runs_of, taken, weight_rows
from .novelty import Novelty, usual_distance
from .predictions import disagreement, outputs_of, wrong_overlap
from .quotient import Quotient
from .scores import Scores, Scoring
from .statistics import interval


class Standard:
    """What training and held-out networks are like; arguments as in `evaluate`."""

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
            "training": self.know(self.training),
            "held_out": self.know(self.held_out),
        }
        self.flags = flags_of_populations(self.training, self.held_out)
        self._usual = self._distances_of_training()
        self._reference: dict[tuple[str, bytes], Any] = {}

    # ------------------------------------------------------------------ of networks
    def known(self, part: str) -> Known:
        """What is known of "training" or "held_out" networks."""
        return self._known[part]

    def know(self, population: Population) -> Known:
        """All that is compared of these networks, which are finite."""
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

    def subset(self, known: Known, size: int, what: str) -> Known:
        """So many of these networks, drawn without replacement; in the given order if that is all."""
        if size >= len(known.rows):
            return known
        index = jax.random.permutation(self._key(what), len(known.rows))[:size]
        return known.take(np.sort(np.asarray(index)))

    # ------------------------------------------------------------------ between networks
    def nearest(self, where: str, known: Known, groups) -> Nearest:
        """The nearest training network of each, by "weights", "quotient", "predictions", "outputs"."""
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

    def novelty(self, where: str, known: Known, groups) -> Novelty:
        """How far these are from training networks, beside how far those are from each other.

        `groups` are the runs of both, if networks of one run are not to be compared.
        """
        usual, held_out = self._usual[where]
        return Novelty(self.nearest(where, known, groups), usual, held_out)

    def overlap(self, known: Known, groups) -> np.ndarray:
        """The largest overlap of wrong predictions with a training network, of each."""
        training = self._known["training"]
        targets = self.targets.reshape(-1)  # type: ignore[union-attr]
        found = wrong_overlap(known.classes != targets, training.classes != targets)
        if groups is not None:
            found = np.where(groups[0][:, None] == groups[1][None], 0.0, found)
        return found.max(axis=1)

    def distances(self, where: str, x: Known, y: Known) -> np.ndarray | None:
        """A matrix of distances, or None where they have no meaning."""
        if where == "weights":
            return euclidean(x.rows, y.rows)
        if where == "quotient":
            return self.quotient.matrix(x.settled, y.settled)
        if where == "predictions":
            if x.classes is None or y.classes is None:
                return None
            return disagreement(x.classes, y.classes)
        if x.classes is not None or x.outputs is None or y.outputs is None:
            return None  # logits of classifiers have no scale of their own
        flat: Any = lambda z: z.reshape(len(z), -1)  # noqa: E731
        return euclidean(flat(x.outputs), flat(y.outputs))

    def matrices(self, where: str, samples: Known, reference: Known) -> Any:
        """Distances within samples, within the reference and across, or None; the second is kept."""
        across = self.distances(where, samples, reference)
        if across is None:
            return None
        within = self.distances(where, samples, samples)
        at = (where, reference.rows.tobytes())
        if at not in self._reference:
            self._reference[at] = self.distances(where, reference, reference)
        return within, self._reference[at], across

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
                usual_distance(self.nearest(n, some, among)),
                self.nearest(n, held_out, others).distance,
            )
            for n in names
        }

    # ------------------------------------------------------------------ chance
    def interval(self, metric: Callable[..., Any], values: np.ndarray) -> Interval:
        """A bootstrap interval with the key."""
        return interval(metric, values, key=self._key("resamples"), resamples=self.resamples)

    def _key(self, what: str) -> jax.Array:
        return jax.random.fold_in(self.key, sum(map(ord, what)))
