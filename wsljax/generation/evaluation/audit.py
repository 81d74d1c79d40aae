"""`Audit`: what training and held-out networks are like, measured once, and reports on others beside them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ...train.metrics import Interval
from . import measures
from .flags import flags_of_measures, flags_of_samples
from .known import Known
from .networks import as_population, finite_rows
from .novelty import COPY, new_and_good
from .report import Report
from .standard import Standard
from .statistics import mean


class Audit(Standard):
    """Training and held-out networks, ready for reports on others; arguments as in `evaluate`.

    `evaluate` makes one for a single report; several sets of samples share one (as `compare` does).
    """

    def report(self, samples: Any, name: str = "samples") -> Report:
        """Judge these networks; see `evaluate`."""
        population = as_population(samples, self.training)
        finite = finite_rows(population.params)
        if not finite.any():
            flag = f"not_finite: all {len(finite)} networks have NaN or infinite weights"
            return Report(name, len(finite), {}, {}, (*self.flags, flag))
        known = self.know(population.take(np.flatnonzero(finite)))
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
            "weights": self.novelty("weights", known, groups),
            "quotient": self.novelty("quotient", known, groups),
        }
        overlap, held_out_overlap = None, None
        if known.classes is not None:
            novelty["predictions"] = self.novelty("predictions", known, groups)
            overlap = self.overlap(known, groups)
            held_out_overlap = float(self.overlap(reference, None).mean())
            columns["wrong_overlap"] = _spread(overlap, finite)
        elif known.outputs is not None:
            novelty["outputs"] = self.novelty("outputs", known, groups)
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


def _spread(values: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """One value for each network again; NaN for those that are not finite."""
    out = np.full(len(finite), np.nan)
    out[finite] = values
    return out
