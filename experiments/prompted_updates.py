"""Ask for a loss, get a network: diffusion from one checkpoint to another, after G.pt.

`python -m experiments.prompted_updates --size cpu` trains thousands of small classifiers with checkpoints,
learns to go from a checkpoint to a later one of the same run whose loss is told, and then asks untrained
networks of other runs for losses all over the range: how near comes what is achieved? Beside it stand two
answers that need no learning: the start itself, and the training checkpoint whose loss is nearest, which
is exact and a copy. Each denoiser is asked with many steps, for one of the networks that are likely, and with
one step, for their mean. Nothing is selected. What has been done is kept; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs._metanetworks import SIZES
from configs.prompted_updates import DATASETS, Config, Row, get_config
from experiments._generation.zoos import GeneratedFrom
from experiments._metanetworks.populations import place, population
from experiments._metanetworks.study import add_seeds, chosen_rows, with_seeds
from experiments._metanetworks.table import report, run_rows, text
from experiments._zoo import data as sources
from wsljax import train, zoo
from wsljax.generation import evaluation, fit
from wsljax.generation.families import align_runs, g_pt, prompt, updates
from wsljax.generation.samplers import DDIM, Ancestral

LOG_LOSS = "log_loss"
SHOWN = ("correlation", "slope", "log error", "lowest/loss", "lowest/accuracy", "lowest/ratio")


class Asked(NamedTuple):
    """What all rows are asked.

    Attributes:
        opened: training and held-out checkpoints.
        start: held-out networks, untrained, `(starts, ...)`.
        has: logarithms of their losses.
        levels: logarithms of the losses that are asked for.
    """

    opened: GeneratedFrom
    start: Any
    has: jax.Array
    levels: np.ndarray


def run(
    config: Config, folder: Path, *, data: Any, command: str, quiet: bool, out: Path | None = None
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in `out` (default: the folder)."""
    about = {
        f.name: getattr(config, f.name)
        for f in dataclasses.fields(config) if f.name not in ("rows", "seeds")
    }  # fmt: skip
    made: dict[str, Any] = {}

    def one(row: Row, seed: int) -> dict[str, Any]:
        if not made:
            made["asked"] = _asked(config, folder, data, quiet)
        asked = made["asked"]
        key = jax.random.key(seed)
        steps = config.steps if row.family == "diffusion" else 1
        with train.progress(steps, row.family, enabled=False if quiet else None) as bar:
            answers, about_fit = _answers(row, asked, config, key, bar)
        found = {
            _named(name, sampled): value
            for sampled, answer in answers.items()
            for name, value in scores(asked, answer).items()
        }
        curves = {str(sampled): curve(asked, answer) for sampled, answer in answers.items()}
        return {"scores": found, "curves": curves, **about_fit}

    rows = run_rows(config.rows, config.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet)
    if not quiet:
        for steps in (0, *config.sampler_steps):
            names = [_named(n, steps) for n in SHOWN]
            some = {n: r for n, r in rows.items() if names[0] in r["scores"]}
            print(text(some, tuple(names)))
    out = folder if out is None else out
    return report(out / "results.json", command=command, about=about, rows=rows)


def _named(score: str, steps: int) -> str:
    """A score of what a sampler drew in so many steps; 0: of what needs none."""
    return f"{steps} steps/{score}" if steps else score


def _asked(config: Config, folder: Path, data: Any, quiet: bool) -> Asked:
    changes = {
        "models": config.runs + config.held_out_runs, "steps": config.network_steps,
        "snapshots": config.snapshots, "seed": config.seed,
        "settings": {"widths": config.widths, "initialiser": "he_normal"},
        "options": {"dataset": config.dataset},
    }  # fmt: skip
    found = population(
        "digit_mlps", size="small", folder=folder / "zoos", data=data, changes=changes, quiet=quiet,
        kinds=("permutation", "scale"),
    )  # fmt: skip
    stored = zoo.open(place("digit_mlps", "small", folder / "zoos", changes) / "networks")
    assert stored.evaluation is not None  # build_zoo keeps what it measures on
    inputs, targets = (
        jnp.asarray(x) for x in (stored.evaluation.inputs, stored.evaluation.targets)
    )
    images = sources.images(config.dataset, sources.data_folder(data))
    x = jnp.asarray(images.train_x.reshape(-1, *inputs.shape[1:]), inputs.dtype)
    trained_on = (x[:2000], jnp.asarray(images.train_y[:2000]))
    logs = log_losses(found, found.params, trained_on)
    found = zoo.Population(
        found.params, {**found.columns, LOG_LOSS: logs}, found.spec, found.labels, found.function,
        found.roles,
    )  # fmt: skip
    runs = np.asarray(found.columns["run"])
    every = np.random.default_rng(config.seed).permutation(np.unique(runs))
    parts = every[: config.runs], every[config.runs :]
    training, held_out = (found.take(np.flatnonzero(np.isin(runs, p))) for p in parts)
    opened = GeneratedFrom(training, held_out, (inputs, targets), trained_on=trained_on)
    new = np.flatnonzero(np.asarray(held_out.columns["step"]) == min(config.snapshots))
    new = new[: config.starts]
    levels = np.quantile(
        np.asarray(training.columns[LOG_LOSS]), (np.arange(config.levels) + 0.5) / config.levels
    )
    return Asked(opened, held_out.take(new).params, held_out.columns[LOG_LOSS][new], levels)


def log_losses(
    networks: zoo.Population, params: Any, data: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Logarithms of the mean cross entropy of networks, `(n,)`."""
    function, row = networks.function, networks.row(0)

    def one(p: Any) -> jax.Array:
        said = function.apply(p, data[0], row)
        return jnp.log(optax.softmax_cross_entropy_with_integer_labels(said, data[1]).mean())

    found = jax.jit(lambda params: jax.lax.map(one, params, batch_size=64))(
        jax.tree.map(jnp.asarray, params)
    )
    return jnp.nan_to_num(found, nan=20.0, posinf=20.0)


def _answers(
    row: Row, asked: Asked, config: Config, key: jax.Array, log: Any
) -> tuple[dict[int, Any], dict[str, Any]]:
    """Networks `(levels, starts, ...)` by the steps of the sampler (0: there is none), and what they took."""
    count = len(asked.has)
    if row.family == "start":
        same = lambda x: jnp.broadcast_to(x, (len(asked.levels), *x.shape))  # noqa: E731
        return {0: jax.tree.map(lambda x: same(jnp.asarray(x)), asked.start)}, {"parameters": None}
    training, start = asked.opened.training, asked.start
    if row.family == "retrieval":
        logs = np.asarray(training.columns[LOG_LOSS])
        near = [np.argsort(np.abs(logs - level))[:count] for level in asked.levels]
        found = training.take(np.concatenate(near)).params
        shape = (len(asked.levels), count)
        near = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)
        return {0: near}, {"parameters": None}
    began = time.perf_counter()
    keys = jax.random.split(key, 5)
    if row.aligned:
        runs = align_runs(training, key=keys[4])
        training, start = runs.population, runs.align(start)
    pairs = updates(training, LOG_LOSS, key=keys[0], n=config.pairs)
    model = g_pt(
        pairs, key=keys[1], width=row.width, layers=row.layers, method=row.method, moved=row.moved
    )
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.steps // 10), max(2, config.steps)
    )
    fitted = fit(
        model, pairs.population, condition=pairs.condition, steps=config.steps,
        batch_size=config.batch, optimiser=optax.adamw(rate, weight_decay=1e-2), key=keys[2],
        average=config.average, log=log,
    )  # fmt: skip
    answers = {}
    for steps in config.sampler_steps:
        sampler = Ancestral(steps) if steps > 1 else DDIM(1)
        drawn = [
            fitted.generator.sample(
                jax.random.fold_in(keys[3], number), count, at_once=128, sampler=sampler,
                condition=prompt(start, asked.has, float(level)),
            )
            for number, level in enumerate(asked.levels)
        ]  # fmt: skip
        answers[steps] = jax.tree.map(lambda *x: jnp.stack(x), *drawn)
    size = sum(x.size for x in jax.tree.leaves(fitted.generator.net) if hasattr(x, "size"))
    seconds = time.perf_counter() - began
    return answers, {"parameters": size, "seconds": seconds, "history": fitted.history}


def _achieved(asked: Asked, answers: Any) -> np.ndarray:
    """Logarithms of losses, `(levels, starts)`."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), answers)
    assert asked.opened.trained_on is not None
    found = log_losses(asked.opened.training, flat, asked.opened.trained_on)
    return np.asarray(found, np.float64).reshape(len(asked.levels), -1)


def scores(asked: Asked, answers: Any) -> dict[str, float]:
    """How what is achieved goes with what is asked, and what the networks of the lowest loss are like.

    "correlation" and "slope" are of logarithms of losses over all levels and starts; "log error" is the
    median of the absolute difference; "lowest/..." is measured on the networks asked for the lowest loss:
    accuracy on test data, and the distance to the nearest training checkpoint up to symmetry ("ratio"; 1 is
    that between checkpoints of different runs).
    """
    achieved = _achieved(asked, answers)
    wanted = np.broadcast_to(asked.levels[:, None], achieved.shape)
    spread = achieved.std() > 1e-9 * max(1.0, np.abs(achieved).max())
    moves = np.polyfit(wanted.ravel(), achieved.ravel(), 1)[0]
    out = {
        "correlation": float(np.corrcoef(wanted.ravel(), achieved.ravel())[0, 1])
        if spread
        else 0.0,
        "slope": float(moves),
        "log error": float(np.median(np.abs(achieved - wanted))),
    }
    lowest = jax.tree.map(lambda x: x[0], answers)
    opened = asked.opened
    final = [_last(p) for p in (opened.training, opened.held_out)]
    told = evaluation.evaluate(
        lowest, final[0], final[1], key=jax.random.key(7), data=opened.data, diversity=32,
        candidates=8, resamples=50,
    )  # fmt: skip
    return out | {
        "lowest/loss": float(np.exp(achieved[0].mean())),
        "lowest/accuracy": told["quality/accuracy mean"],
        "lowest/ratio": told["quotient/ratio"],
    }


def _last(networks: zoo.Population) -> zoo.Population:
    """The last checkpoint of each run."""
    runs, steps = (np.asarray(networks.columns[n]).tolist() for n in ("run", "step"))
    return networks.take(zoo.last_checkpoints(runs, steps))


def curve(asked: Asked, answers: Any) -> dict[str, list[float]]:
    """For each loss that is asked for the quartiles of what is achieved."""
    quartiles = np.exp(np.quantile(_achieved(asked, answers), [0.25, 0.5, 0.75], axis=1))
    names = ("lower quartile", "median", "upper quartile")
    return {"asked": np.exp(asked.levels).tolist()} | dict(
        zip(names, quartiles.tolist(), strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="experiments.prompted_updates", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument(
        "--dataset", choices=DATASETS, help="default: digits, at the full size mnist"
    )
    parser.add_argument(
        "--folder", type=Path, help="default runs/prompted_updates/<dataset>_<size>"
    )
    parser.add_argument("--out", type=Path, help="of results.json; default: the folder")
    parser.add_argument("--rows", nargs="+", help="default all")
    add_seeds(parser)
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    config = get_config(given.size, given.dataset)
    if given.rows is not None:
        config = dataclasses.replace(config, rows=chosen_rows(dict(config.rows), given.rows))
    folder = given.folder or Path("runs") / "prompted_updates" / f"{config.dataset}_{given.size}"
    command = f"python -m experiments.prompted_updates --size {given.size}"
    command += f" --dataset {given.dataset}" if given.dataset else ""
    config, command = with_seeds(config, command, given.seeds)
    command += " --data FOLDER" if given.data else ""
    return run(config, folder, data=given.data, command=command, quiet=given.quiet, out=given.out)


if __name__ == "__main__":
    main()
