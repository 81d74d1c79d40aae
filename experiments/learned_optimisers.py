"""Optimisers that are equivariant networks, beside tuned Adam and SGD with momentum.

`python -m experiments.learned_optimisers --size cpu` meta-trains optimisers on the training of small
classifiers of digits (an MLP, a CNN that strides, an RNN over rows), by gradients through pieces of runs
and then by persistent evolution strategies, and runs them from other seeds, on networks of another width, and
for twice as many steps as they were trained for. Beside them: Adam and SGD with momentum with the rate of a
grid that does best on still other seeds, constant or falling by a cosine (and chosen anew for the other
width); Adam whose rate alone is meta-trained; a map of single weights; and a Deep Set.
`--data FOLDER --dataset mnist` takes MNIST or Fashion-MNIST. What has been trained is kept; an interrupted
run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs._metanetworks import SIZES
from configs.learned_optimisers import Config, Learned, Tuned, get_config
from experiments._learned_optimisers_report import figure
from experiments._learned_optimisers_tasks import NETWORKS, Images, Problem, load, problem
from experiments._metanetworks.study import add_seeds, with_seeds
from experiments._metanetworks.table import report, run_rows, text
from wsljax import train
from wsljax.applications import OptimiserNetwork, learned_optimiser, meta_train
from wsljax.applications.meta_training import (
    persistent_evolution,
    run_task,
    training_run,
    unrolled_gradients,
)

SCORES = (
    "mean_loss",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "wide_train_loss",
    "long_train_loss",
)
Make = Callable[[Any, int], optax.GradientTransformation]
"""`make(theta, steps)`: an optimiser for runs of so many steps."""


def run(config: Config, folder: Path, *, data: Any, command: str, quiet: bool) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    found = load(config.dataset, data, side=config.side, train=config.train, test=config.test)
    about = {
        "data": found.source, "images": [len(found.train_y), len(found.test_y)],
        **{k: v for k, v in dataclasses.asdict(config).items() if k not in ("rows", "networks", "seeds")},
    }  # fmt: skip
    rows: dict[str, Any] = {}
    for name, widths in config.networks.items():
        study = Study(config, name, found, quiet)
        own = {**about, "network": name, "widths": widths, "weights": study.near.weights}
        for kind, seeds in ((Tuned, min(1, config.seeds)), (Learned, config.seeds)):
            wanted = {f"{name}: {row}": e for row, e in config.rows.items() if isinstance(e, kind)}
            rows |= run_rows(
                wanted, seeds, study.one, folder / "rows.jsonl", about=own, quiet=quiet
            )
    if not quiet:
        print(text(rows, SCORES))
    result = report(folder / "results.json", command=command, about=about, rows=rows)
    figure(folder / "learned_optimisers.png", rows, tuple(config.networks), config)
    return result


class Study:
    """All rows of one network."""

    def __init__(self, config: Config, name: str, data: Images, quiet: bool):
        self.config, self.name, self.quiet = config, name, quiet
        width, other = config.networks[name]
        self.near = problem(name, data, width=width, batch=config.batch)
        self.far = problem(name, data, width=other, batch=config.batch)
        keys = jax.random.split(jax.random.key(config.seed), 3)
        self.test_keys = jax.random.split(keys[0], config.runs)
        self.tuning_keys = jax.random.split(keys[1], config.tuning)
        self.meta_key = keys[2]
        self.programs: dict[str, Any] = {}

    def one(self, entry: Tuned | Learned, seed: int) -> dict[str, Any]:
        """One optimiser, made and tested."""
        start = time.time()
        if isinstance(entry, Tuned):
            out = self._tuned(entry)
        else:
            out = self._learned(entry, seed)
        return {**out, "seconds": time.time() - start}

    def _tuned(self, entry: Tuned) -> dict[str, Any]:
        """Choose the rate on the tuning runs, for either width, and test it."""
        config = self.config
        grid = entry.rates or getattr(config, f"{entry.optimiser}_rates")
        make = _with_rate(entry)
        chosen, tested = {}, {}
        for place, where in (("near", self.near), ("far", self.far)):
            tune = jax.jit(jax.vmap(self._runs(where, make, config.horizon), (0, None)))
            found = jax.tree.map(np.asarray, tune(jnp.asarray(grid), self.tuning_keys))
            of = {"mean": "mean_loss", "end": "train_loss"}[entry.by]
            losses = [
                _scores({k: v[i] for k, v in found.items()}, config.horizon, config)[of]
                for i in range(len(grid))
            ]
            best = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
            chosen[place] = {"rate": grid[best], "at_the_edge": best in (0, len(grid) - 1)}
            steps = config.horizon * (1 if entry.cosine else 2)
            test = jax.jit(self._runs(where, make, steps))
            tested[place] = jax.tree.map(np.asarray, test(grid[best], self.test_keys))
        return {"chosen": chosen, "parameters": 1, **self._summary(tested)}

    def _learned(self, entry: Learned, seed: int) -> dict[str, Any]:
        """Meta-train and test; what is compiled serves all seeds of an entry."""
        if repr(entry) not in self.programs:
            self.programs[repr(entry)] = self._programs(entry)
        tests, stages = self.programs[repr(entry)]
        first = self._start(entry, seed)
        before = jax.tree.map(np.asarray, tests["near"](first, self.test_keys))
        trained, history = first, []
        for i, (steps, estimator, optimiser) in enumerate(stages):
            key = jax.random.fold_in(jax.random.fold_in(self.meta_key, seed), 1 + i)
            with train.progress(steps, self.name, enabled=False if self.quiet else None) as bar:
                found = meta_train(
                    trained,
                    estimator,
                    optimiser,
                    steps=steps,
                    key=key,
                    every=min(steps, 50),
                    log=bar,
                )
            trained = found.theta
            history += _thinned(found.history["loss"], 50)
        tested = {p: jax.tree.map(np.asarray, t(trained, self.test_keys)) for p, t in tests.items()}
        return {
            **self._summary(tested),
            "before": _scores(before, self.config.horizon, self.config),
            "parameters": sum(int(np.size(x)) for x in jax.tree.leaves(first)),
            "meta_loss": history,
        }

    def _start(self, entry: Learned, seed: int) -> Any:
        if entry.rate_only:
            return jnp.log(self.config.start_rate)
        options = {"rate": self.config.start_rate, **entry.options}
        key = jax.random.fold_in(jax.random.fold_in(self.meta_key, seed), 0)
        return OptimiserNetwork(self.near.spec, method=entry.method, key=key, **options)

    def _programs(self, entry: Learned) -> tuple[dict[str, Callable], list[tuple]]:
        """The test runs of either width, and the stages of meta-training."""
        config = self.config

        def make(theta: Any, steps: int, spec: Any = None) -> optax.GradientTransformation:
            if entry.rate_only:
                return optax.adam(jnp.exp(theta))
            return learned_optimiser(theta, spec=spec)

        tests = {}
        for place, where in (("near", self.near), ("far", self.far)):
            own = functools.partial(make, spec=where.spec)
            tests[place] = jax.jit(self._runs(where, own, 2 * config.horizon))
        inner = training_run(
            self.near.task, lambda theta: make(theta, config.horizon), ceiling=config.ceiling
        )
        lengths: dict[str, Any] = {
            "particles": config.particles,
            "truncation": config.truncation,
            "horizon": config.horizon,
        }
        stages, meta_rate = [], config.meta_rate if entry.meta_rate is None else entry.meta_rate
        for wanted, usual, rate, estimator in (
            (entry.unrolled, config.unrolled, meta_rate,
             unrolled_gradients(inner, clip=1.0, **lengths)),
            (entry.evolution, config.evolution, meta_rate / 3,
             persistent_evolution(inner, deviation=config.deviation, **lengths)),
        ):  # fmt: skip
            steps = usual if wanted is None else wanted
            if steps:
                schedule = optax.cosine_decay_schedule(rate, steps, alpha=0.1)
                optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
                stages.append((steps, estimator, optimiser))
        return tests, stages

    def _runs(self, where: Problem, make: Make, steps: int) -> Callable[[Any, jax.Array], Any]:
        """A function of theta and keys: batch losses `(runs, steps)`, measurements `(runs, points)`."""

        def one(theta: Any, key: jax.Array) -> Any:
            _, losses, measured = run_task(
                where.task, make(theta, steps), steps=steps, every=self.config.every, key=key,
                measure=where.measure,
            )  # fmt: skip
            return {"batch_loss": losses, **measured}

        return jax.vmap(one, (None, 0))

    def _summary(self, tested: dict[str, Any]) -> dict[str, Any]:
        horizon, config = self.config.horizon, self.config
        near = _scores(tested["near"], horizon, config)
        far = _scores(tested["far"], horizon, config)
        scores = near | {f"wide_{k}": v for k, v in far.items()}
        curves = {
            place: {k: v.mean(0).round(5).tolist() for k, v in found.items() if k != "batch_loss"}
            for place, found in tested.items()
        }
        last = tested["near"]["train_loss"]
        if last.shape[1] * config.every > horizon:
            scores["long_train_loss"] = float(last[:, -1].mean())
        at = horizon // config.every - 1
        spread = {k: float(v[:, at].std()) for k, v in tested["near"].items() if k != "batch_loss"}
        return {"scores": scores, "curves": curves, "spread_over_runs": spread}


def _with_rate(entry: Tuned) -> Make:
    def make(rate: Any, steps: int) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(1.0, steps) if entry.cosine else lambda count: 1.0
        inner = {"adam": optax.scale_by_adam(), "momentum": optax.trace(0.9)}[entry.optimiser]
        return optax.chain(inner, optax.scale_by_schedule(schedule), optax.scale(-rate))

    return make


def _scores(found: dict[str, np.ndarray], horizon: int, config: Config) -> dict[str, float]:
    """Means over runs: of the batch losses up to the horizon, and of what is measured there."""
    at = horizon // config.every - 1
    scores = {"mean_loss": float(found["batch_loss"][:, :horizon].mean())}
    names = ("train_loss", "test_loss", "test_accuracy")
    return scores | {name: float(found[name][:, at].mean()) for name in names}


def _thinned(x: np.ndarray, points: int) -> list[float]:
    """Means of so many pieces."""
    return [float(piece.mean()) for piece in np.array_split(x, min(points, len(x)))]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="experiments.learned_optimisers", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--dataset", choices=("digits", "mnist", "fashion_mnist"))
    parser.add_argument(
        "--folder", type=Path, help="default runs/learned_optimisers/<dataset>_<size>"
    )
    parser.add_argument("--networks", nargs="*", choices=tuple(NETWORKS), help="default all")
    parser.add_argument("--rows", nargs="*", help="rows of the table; default all")
    add_seeds(parser)
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    config = get_config(given.size)
    if given.dataset:
        config = dataclasses.replace(config, dataset=given.dataset)
    for name in ("networks", "rows"):
        wanted, known = getattr(given, name), getattr(config, name)
        if wanted:
            if unknown := sorted(set(wanted) - set(known)):
                raise SystemExit(f"--{name}: {unknown} not among {sorted(known)}.")
            config = dataclasses.replace(config, **{name: {n: known[n] for n in wanted}})
    folder = given.folder or Path("runs/learned_optimisers") / f"{config.dataset}_{given.size}"
    command = f"python -m experiments.learned_optimisers --size {given.size}"
    command += f" --dataset {given.dataset}" if given.dataset else ""
    command += f" --networks {' '.join(given.networks)}" if given.networks else ""
    config, command = with_seeds(config, command, given.seeds)
    command += " --data FOLDER" if given.data else ""
    return run(config, folder, data=given.data, command=command, quiet=given.quiet)


if __name__ == "__main__":
    main()
    sys.exit(0)
