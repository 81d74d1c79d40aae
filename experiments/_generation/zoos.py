"""The zoos that generators learn from: split by run, with the data that networks are judged on.

Those of the study: iris 4-16-3 (131 weights), breast cancer 30-16-16-2 (802), digits 64-16-10 (1,210), sine
networks 2-32-32-1 of digits (1,185), each digit with its own start or all with one, and of MNIST, all with one
that is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._generation.learnt_fits import learnt_fits
from experiments._metanetworks.populations import place, population
from experiments._zoo import data as sources
from wsljax import zoo

TABLES = ("iris", "breast_cancer", "digits")
LEARNT = "mnist_sirens"
SIRENS = ("sirens_shared", "sirens_own", LEARNT)
NAMES = (*TABLES, *SIRENS)

_CONFIGS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "iris": ("iris", {}, ("permutation", "scale")),
    "breast_cancer": ("breast_cancer", {}, ("permutation", "scale")),
    "digits": ("digit_mlps", {}, ("permutation", "scale")),
    "sirens_shared": ("digit_sirens", {"seed": 0}, ("permutation", "sign")),
    "sirens_own": ("digit_sirens", {}, ("permutation", "sign")),
}


class GeneratedFrom(NamedTuple):
    """Networks to learn from, others to compare with, and the data that all are judged on.

    Attributes:
        training, held_out: populations that share no run.
        data: `(inputs, targets)` of the test part for classifiers; None for sine networks.
        points: coordinates `(pixels, 2)` of sine networks, else None.
        images: of sine networks, the image of each training and each held-out network, `(n, pixels)`.
        labels: of those images, else None.
        trained_on: `(inputs, targets)` that the networks of a table of data were trained on, else None.
    """

    training: zoo.Population
    held_out: zoo.Population
    data: tuple[jax.Array, jax.Array] | None
    points: jax.Array | None = None
    images: tuple[np.ndarray, np.ndarray] | None = None
    labels: tuple[np.ndarray, np.ndarray] | None = None
    trained_on: tuple[jax.Array, jax.Array] | None = None

    def audit_options(self) -> dict[str, Any]:
        """What `evaluate` and `compare` need to know of this zoo."""
        if self.data is not None:
            return {"data": self.data, "scores": ("accuracy", "cross_entropy")}
        return {"probes": self.points}


def open_zoo(
    name: str,
    *,
    folder: str | Path,
    data: str | Path | None = None,
    size: str = "small",
    models: int | None = None,
    training: int | None = None,
    held_out: int | None = None,
    last: bool = True,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    quiet: bool = False,
) -> GeneratedFrom:
    """A zoo, built in seconds where it is not there yet.

    Args:
        name: one of `NAMES`.
        folder: where zoos are kept.
        data: a folder of image files, for MNIST.
        size: "tiny", "small" or "full".
        models: how many networks are trained (default: as many as the size says).
        training, held_out: runs of each, at most (default: half and half; of sine networks those whose
            digit is held out).
        last: the last snapshot of each run only.
        seed: of the split.
        kinds: of symmetry (default: permutations and scales, for sine networks signs).
        quiet: no bars and tables.

    Raises:
        ValueError: an unknown name, or more runs than there are.
    """
    if name not in NAMES:
        raise ValueError(f"zoo {name!r}: there are {', '.join(NAMES)}.")
    if name == LEARNT:
        return _learnt(Path(folder), data, size, models, training, held_out, seed, quiet)
    config, hyper, usual = _CONFIGS[name]
    changes: dict[str, Any] = {"parts": {}}
    if hyper:
        changes["hyper"] = {"optimiser": "adam", "learning_rate": 1e-3, **hyper}
    if models is not None:
        changes["models"] = models
    kinds = usual if kinds is None else kinds
    found = population(config, size=size, folder=folder, changes=changes, quiet=quiet, kinds=kinds)
    if last:
        runs, steps = (np.asarray(found.columns[n]).tolist() for n in ("run", "step"))
        found = found.take(zoo.last_checkpoints(runs, steps))
    stored = zoo.open(place(config, size, Path(folder), changes) / "networks")
    assert stored.evaluation is not None  # build_zoo keeps what it measures on
    inputs, targets = (np.asarray(x) for x in (stored.evaluation.inputs, stored.evaluation.targets))
    first, second = _split(found, training, held_out, seed)
    parts = found.take(first), found.take(second)
    if name in TABLES:
        return GeneratedFrom(
            *parts,
            (jnp.asarray(inputs), jnp.asarray(targets)),
            trained_on=_trained_on(name, inputs),
        )
    return _drawings(parts, inputs, targets.reshape(len(targets), -1))


def _learnt(
    folder: Path, data: Any, size: str, models: int | None, training: int | None,
    held_out: int | None, seed: int, quiet: bool,
) -> GeneratedFrom:  # fmt: skip
    """Of MNIST; which networks are held out is the data's own split."""
    found, points, images = learnt_fits(
        folder, data=data, size=size, models=models, seed=0, quiet=quiet
    )
    first, second = _split(found, training, held_out, seed)
    return _drawings((found.take(first), found.take(second)), points, images)


def _drawings(
    parts: tuple[zoo.Population, zoo.Population], points: np.ndarray, images: np.ndarray
) -> GeneratedFrom:
    drawn = [images[np.asarray(p.columns["image"])] for p in parts]
    labels = [np.asarray(p.columns["label"]) for p in parts]
    return GeneratedFrom(
        *parts, None, jnp.asarray(points), (drawn[0], drawn[1]), (labels[0], labels[1])
    )


def _trained_on(name: str, inputs: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """What the networks of a table were trained on, in the shape of what they are measured on."""
    found = sources.images("digits", None) if name == "digits" else getattr(sources, name)()
    x = found.train_x.reshape(-1, *inputs.shape[1:])
    return jnp.asarray(x, inputs.dtype), jnp.asarray(found.train_y)


def _split(
    found: zoo.Population, training: int | None, held_out: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two parts that share no run; sine networks of held-out digits are the second."""
    runs = np.asarray(found.columns["run"])
    every = np.random.default_rng(seed).permutation(np.unique(runs))
    if "held_out" in found.columns:
        marked = set(runs[np.asarray(found.columns["held_out"]) > 0].tolist())
        first = [run for run in every if run not in marked]
        second = [run for run in every if run in marked]
    else:
        cut = len(every) // 2 if training is None else training
        first, second = list(every[:cut]), list(every[cut:])
    for what, wanted, part in (("training", training, first), ("held_out", held_out, second)):
        if wanted is not None and not 0 < wanted <= len(part):
            raise ValueError(f"`{what}` is {wanted} runs; there are {len(part)}.")
    return (
        np.flatnonzero(np.isin(runs, first[:training])),
        np.flatnonzero(np.isin(runs, second[:held_out])),
    )
