"""What studies share that predict how well networks do: the networks, the goal, plain predictors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs._metanetworks import Entry, Training
from experiments._metanetworks.learn import Goal, Learnt, Part, logit, regression
from experiments._metanetworks.study import trainer
from wsljax import representation, zoo
from wsljax.representation.baselines.evaluate import PREDICTORS

SPLIT = (0.7, 0.15, 0.15)
"""Runs to train on, to choose by, and to measure on once."""


class Question(NamedTuple):
    """Networks, and a number between 0 and 1 of each that is to be told from its weights.

    Attributes:
        networks: the last ones of each run, as far as they are finite.
        target: the column that is asked for.
        split: of the networks; no run is in two parts.
        parts: the networks and the numbers of each part.
        scale: mean and deviation of the logits of the training numbers.
        seed: of the split and of intervals.
    """

    networks: zoo.Population
    target: str
    split: zoo.Split
    parts: tuple[Part, Part, Part]
    scale: tuple[float, float]
    seed: int

    @property
    def goal(self) -> Goal:
        return regression(self.scale)

    def about(self) -> dict[str, Any]:
        """For `table.run_rows`."""
        first, second, third = self.parts
        return {
            "networks": len(self.networks), "target": self.target, "seed": self.seed,
            "split": [len(p.targets) for p in self.parts], "weights": weights_of(self.networks),
            "targets": [float(x) for x in np.quantile(first.targets, (0, 0.1, 0.5, 0.9, 1))],
        }  # fmt: skip


def ask(networks: zoo.Population, target: str, *, seed: int, last_only: bool = True) -> Question:
    """A question about the networks of a zoo."""
    networks = usable(networks, last_only=last_only)
    split = zoo.split(np.asarray(networks.columns["run"]).tolist(), SPLIT, key=jax.random.key(seed))
    parts = tuple(
        Part(p.params, np.asarray(p.columns[target], np.float32)) for p in map(networks.take, split)
    )
    return Question(networks, target, split, parts, scale_of(parts[0].targets), seed)  # pyright: ignore[reportArgumentType]


def usable(networks: zoo.Population, *, last_only: bool = True) -> zoo.Population:
    """Networks that are finite, of each run the last one only."""
    if last_only:
        runs, steps = (np.asarray(networks.columns[name]).tolist() for name in ("run", "step"))
        networks = networks.take(zoo.last_checkpoints(runs, steps))
    return networks.take(zoo.finite_members(networks))


def scale_of(targets: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the logits.

    Raises:
        ValueError: all are the same, so that there is nothing to tell.
    """
    scores = np.asarray(logit(np.asarray(targets)))
    if np.ptp(scores) == 0:
        raise ValueError(f"all {len(scores)} training networks have the same target {targets[0]}")
    return float(scores.mean()), float(scores.std())


def weights_of(networks: zoo.Population) -> int:
    """How many one network has."""
    return sum(int(np.prod(x.shape[1:])) for x in jax.tree.leaves(networks.params))


def row_trainer(
    question: Question, training: Training, *, quiet: bool
) -> Callable[[Entry, int], dict[str, Any]]:
    """What `table.run_rows` takes: trains an entry with a seed, and adds intervals of its scores."""
    found: list[Learnt] = []
    one = trainer(
        question.networks.spec, question.parts, question.goal, training, quiet=quiet,
        keep=lambda entry, seed, learnt: found.append(learnt),
    )  # fmt: skip

    def run(entry: Entry, seed: int) -> dict[str, Any]:
        row = one(entry, seed)
        guess = guesses(found.pop().answers, question.scale)
        return row | {"intervals": intervals(guess, question.parts[2].targets, question.seed)}

    return run


def guesses(answers: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Answers of `regression`, standardised logits `(networks, 1)`, as numbers between 0 and 1.

    >>> guesses(np.zeros((1, 1)), (0.0, 1.0)).tolist()
    [0.5]
    """
    mean, deviation = scale
    return 1.02 / (1 + np.exp(-(answers[:, 0] * deviation + mean))) - 0.01


def intervals(guess: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, list[float]]:
    """Bootstrap intervals over networks, 95 in 100, as `{"r2": [low, high], "tau": [low, high]}`."""
    found = representation.score(guess, truth, key=jax.random.key(seed))
    return {
        name: [float(x) for x in found[long][1:]]
        for name, long in (("r2", "r2"), ("tau", "kendall"))
    }


def plain_rows(
    file: Path, about: Mapping[str, Any], compute: Callable[[], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Rows of plain predictors; they have no seed, so they are fitted once and kept in a file.

    Args:
        file: where they are kept.
        about: as of `table.run_rows`; rows of something else are fitted again.
        compute: gives them as `representation.evaluate_baselines` does.
    """
    about = json.loads(json.dumps(about, default=str))
    kept = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("about") != about:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = {"about": about, "rows": compute()}
        file.write_text(json.dumps(kept))
    out = {}
    for row in kept["rows"]:
        scores = {"r2": row["r2"], "tau": row["kendall"]}
        out[f"{row['features']} + {row['predictor']}"] = {
            "seeds": 1,
            "scores": {n: {"mean": v[0], "std": None, "runs": v[:1]} for n, v in scores.items()},
            "intervals": {n: v[1:] for n, v in scores.items()},
        }
    return out


def baselines(question: Question, predictors: Sequence[str], file: Path, about: Mapping[str, Any]):
    """Statistics and hyperparameters with plain predictors, as rows."""

    def compute() -> list[dict[str, Any]]:
        return representation.evaluate_baselines(
            question.networks, question.target, question.split, key=jax.random.key(question.seed),
            predictors={name: PREDICTORS[name] for name in predictors},
        )  # fmt: skip

    return plain_rows(file, about, compute)
