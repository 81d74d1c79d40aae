"""The numbers of a report, section by section."""

from __future__ import annotations

import numpy as np

from ...train.metrics import Interval
from .copying import Copying, copying_test
from .diversity import coverage, energy_test, minimum_matching, nearest_neighbour_accuracy
from .known import Known
from .novelty import COPY, Novelty
from .predictions import disagreement, ensemble_gain, jensen_shannon
from .standard import Standard
from .statistics import exact, mean, median

Values = dict[str, Interval]


def quality(standard: Standard, known: Known, finite: np.ndarray) -> Values:
    """Mean, median, deviation and best of every score, and how many reach the bars of training networks."""
    out: Values = {}
    for name, x in known.scores.items():
        sign = standard.scoring.sign(name)
        out[f"quality/{name} mean"] = standard.interval(mean, x)
        out[f"quality/{name} median"] = standard.interval(median, x)
        out[f"quality/{name} deviation"] = exact(float(np.std(x)))
        out[f"quality/{name} best"] = exact(float(sign * np.max(sign * x)))
        trained = sign * standard.known("training").scores[name]
        for bar in standard.bars:
            reached = np.zeros(len(finite))  # networks that are not finite reach nothing
            reached[finite] = sign * x >= np.quantile(trained, bar)
            out[f"quality/{name} of the best {1 - bar:.0%}"] = standard.interval(mean, reached)
    return out


def novelty(standard: Standard, where: str, found: Novelty) -> Values:
    """Ratios of distances, the share of copies, and the copying test."""
    ratios = found.ratios
    test = copying(found)
    return {
        f"{where}/ratio": standard.interval(median, ratios),
        f"{where}/held-out ratio": exact(found.held_out_ratio),
        f"{where}/distance": standard.interval(median, found.nearest.distance),
        f"{where}/usual distance": exact(found.usual),
        f"{where}/copies": standard.interval(mean, (ratios < COPY).astype(np.float64)),
        f"{where}/Z_U": exact(test.z),
        f"{where}/further than held-out": exact(test.further),
    }


def copying(found: Novelty) -> Copying:
    """The copying test of samples against held-out networks."""
    return copying_test(found.nearest.distance, found.held_out)


def overlap(standard: Standard, own: np.ndarray | None, held_out: float | None) -> Values:
    """The largest overlap of wrong predictions with a training network."""
    if own is None or held_out is None:
        return {}
    return {
        "predictions/wrong overlap": standard.interval(mean, own),
        "predictions/held-out wrong overlap": exact(held_out),
    }


def diversity(standard: Standard, samples: Known, reference: Known) -> Values:
    """1-NNA, coverage, MMD and the energy test, of as many samples as reference networks."""
    size = min(len(samples.rows), len(reference.rows), standard.diversity)
    if size < 2:
        return {}
    samples, reference = (
        standard.subset(samples, size, "samples"),
        standard.subset(reference, size, "reference"),
    )
    out: Values = {}
    for where in ("weights", "quotient", "predictions", "outputs"):
        matrices = standard.matrices(where, samples, reference)
        if matrices is None:
            continue
        within, among, across = matrices
        told_apart = nearest_neighbour_accuracy(within, among, across)
        test = energy_test(within, among, across)
        out |= {
            f"diversity of {where}/1-NNA": standard.interval(mean, told_apart),
            f"diversity of {where}/coverage": standard.interval(mean, coverage(across)),
            f"diversity of {where}/MMD": standard.interval(mean, minimum_matching(across)),
            f"diversity of {where}/energy distance": exact(test.statistic),
            f"diversity of {where}/energy p": exact(test.p),
        }
    return out


def together(standard: Standard, known: Known) -> Values:
    """How much classifiers differ among each other, and what that gives an ensemble."""
    if known.classes is None or known.outputs is None or len(known.rows) < 2:
        return {}
    chosen = standard.subset(known, standard.diversity, "ensemble")
    assert chosen.classes is not None and chosen.outputs is not None
    assert standard.targets is not None
    apart = disagreement(chosen.classes, chosen.classes)
    others = ~np.eye(len(apart), dtype=bool)
    return {
        "together/disagreement": exact(float(apart[others].mean())),
        "together/Jensen-Shannon": exact(jensen_shannon(chosen.outputs)),
        "together/ensemble gain": exact(ensemble_gain(chosen.outputs, standard.targets)),
    }
