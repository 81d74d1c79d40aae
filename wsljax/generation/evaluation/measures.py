"""The numbers of a report, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...train.metrics import Interval
from .copying import Copying, copying_test
from .diversity import coverage, energy_test, minimum_matching, nearest_neighbour_accuracy
from .nearest import euclidean
from .novelty import COPY, Novelty
from .predictions import disagreement, ensemble_gain, jensen_shannon
from .statistics import exact, mean, median

if TYPE_CHECKING:
    from .audit import Audit, Known

Values = dict[str, Interval]


def quality(audit: Audit, known: Known, finite: np.ndarray) -> Values:
    """Mean, median, deviation and best of every score, and how many reach the bars of training networks."""
    out: Values = {}
    for name, x in known.scores.items():
        sign = audit.scoring.sign(name)
        out[f"quality/{name} mean"] = audit.interval(mean, x)
        out[f"quality/{name} median"] = audit.interval(median, x)
        out[f"quality/{name} deviation"] = exact(float(np.std(x)))
        out[f"quality/{name} best"] = exact(float(sign * np.max(sign * x)))
        trained = sign * audit.known("training").scores[name]
        for bar in audit.bars:
            reached = np.zeros(len(finite))  # networks that are not finite reach nothing
            reached[finite] = sign * x >= np.quantile(trained, bar)
            out[f"quality/{name} of the best {1 - bar:.0%}"] = audit.interval(mean, reached)
    return out


def novelty(audit: Audit, where: str, found: Novelty) -> Values:
    """Ratios of distances, the share of copies, and the copying test."""
    ratios = found.ratios
    test = copying(found)
    return {
        f"{where}/ratio": audit.interval(median, ratios),
        f"{where}/held-out ratio": exact(found.held_out_ratio),
        f"{where}/distance": audit.interval(median, found.nearest.distance),
        f"{where}/usual distance": exact(found.usual),
        f"{where}/copies": audit.interval(mean, (ratios < COPY).astype(np.float64)),
        f"{where}/Z_U": exact(test.z),
        f"{where}/further than held-out": exact(test.further),
    }


def copying(found: Novelty) -> Copying:
    """The copying test of samples against held-out networks."""
    return copying_test(found.nearest.distance, found.held_out)


def overlap(audit: Audit, own: np.ndarray | None, held_out: float | None) -> Values:
    """The largest overlap of wrong predictions with a training network."""
    if own is None or held_out is None:
        return {}
    return {
        "predictions/wrong overlap": audit.interval(mean, own),
        "predictions/held-out wrong overlap": exact(held_out),
    }


def diversity(audit: Audit, samples: Known, reference: Known) -> Values:
    """1-NNA, coverage, MMD and the energy test, of as many samples as reference networks."""
    size = min(len(samples.rows), len(reference.rows), audit.diversity)
    if size < 2:
        return {}
    samples, reference = (
        audit.subset(samples, size, "samples"),
        audit.subset(reference, size, "reference"),
    )
    out: Values = {}
    for where in ("weights", "quotient", "predictions", "outputs"):
        matrices = audit.matrices(where, samples, reference)
        if matrices is None:
            continue
        within, among, across = matrices
        told_apart = nearest_neighbour_accuracy(within, among, across)
        test = energy_test(within, among, across)
        out |= {
            f"diversity of {where}/1-NNA": audit.interval(mean, told_apart),
            f"diversity of {where}/coverage": audit.interval(mean, coverage(across)),
            f"diversity of {where}/MMD": audit.interval(mean, minimum_matching(across)),
            f"diversity of {where}/energy distance": exact(test.statistic),
            f"diversity of {where}/energy p": exact(test.p),
        }
    return out


def distances(audit: Audit, where: str, x: Known, y: Known) -> np.ndarray | None:
    """A matrix of distances, or None where they have no meaning."""
    if where == "weights":
        return euclidean(x.rows, y.rows)
    if where == "quotient":
        return audit.quotient.matrix(x.settled, y.settled)
    if where == "predictions":
        if x.classes is None or y.classes is None:
            return None
        return disagreement(x.classes, y.classes)
    if x.classes is not None or x.outputs is None or y.outputs is None:
        return None  # logits of classifiers have no scale of their own
    flat: Any = lambda z: z.reshape(len(z), -1)  # noqa: E731
    return euclidean(flat(x.outputs), flat(y.outputs))


def together(audit: Audit, known: Known) -> Values:
    """How much classifiers differ among each other, and what that gives an ensemble."""
    if known.classes is None or known.outputs is None or len(known.rows) < 2:
        return {}
    chosen = audit.subset(known, audit.diversity, "ensemble")
    assert chosen.classes is not None and chosen.outputs is not None
    assert audit.targets is not None
    apart = disagreement(chosen.classes, chosen.classes)
    others = ~np.eye(len(apart), dtype=bool)
    return {
        "together/disagreement": exact(float(apart[others].mean())),
        "together/Jensen-Shannon": exact(jensen_shannon(chosen.outputs)),
        "together/ensemble gain": exact(ensemble_gain(chosen.outputs, audit.targets)),
    }
