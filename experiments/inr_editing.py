"""Change the weights of a sine network so that it draws an edited image.

`python -m experiments.inr_editing --size cpu` fits a sine network to each image (DWSNets layout: 2-32-32-1,
frequency 30, each of its own start; images in [0, 1]), and trains every method of the table to change the
weights so that strokes are thicker (`dilate`: the largest of 3 x 3 pixels), thinner (`erode`: the smallest)
or outlines (`gradient`). It prints the mean squared error to the edited image on held-out images, beside
what unchanged weights and the mean edited image give, and saves pictures. What has been trained is kept;
an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs._metanetworks import Entry
from configs.inr_editing import Config, get_config
from experiments._metanetworks import peers, questions
from experiments._metanetworks.editing import EDITS, draw, drawing_goal, picture, redrawer
from experiments._metanetworks.image_fits import ImageFits
from experiments._metanetworks.study import DATASETS, command_line, trainer
from experiments._metanetworks.table import options, report, run_rows, text

UNCHANGED = "weights unchanged"
MEAN = "mean edited image"
OWN = Entry("universal")
"""Reads networks of starts of their own, one an image."""


def run(
    config: Config, folder: Path, *, data: Any, command: str, quiet: bool, published: Any = None
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    fits = ImageFits(config.drawings, folder / "zoos", seed=config.seed, data=data, quiet=quiet)
    about = {
        "drawings": dataclasses.asdict(config.drawings), "images": len(fits.labels),
        "split": [len(part) for part in fits.parts], "seed": config.seed,
        "range": [float(fits.signals.min()), float(fits.signals.max())],
        "training": config.training.told(),
    }  # fmt: skip
    rows, results = {}, {}
    for edit in config.edits:
        results[edit] = _table(
            config, fits, edit, folder, {**about, "edit": edit}, quiet, published
        )
        rows |= {f"{edit}: {name}": row for name, row in results[edit].items()}
    if not quiet:
        print(text(rows, ("mse",)))
    return report(folder / "results.json", command=command, about=about, rows=rows)


def _table(config: Config, fits: ImageFits, edit: str, folder: Path, about, quiet: bool, published):
    """The rows of one edit, trivial ones first, and its picture."""
    targets = EDITS[edit](fits.pixels(fits.signals)).reshape(len(fits.signals), -1)
    own = fits.of(OWN)
    shown = own.images[2][: config.pictures]
    before = _drawn(fits, own.params[2])
    drawn = {"image": fits.signals[shown], "drawn": before[: len(shown)], "target": targets[shown]}

    def file(entry) -> Path:
        tag = json.dumps([about, options(entry)], default=str, sort_keys=True)
        return folder / "drawn" / f"{hashlib.sha1(tag.encode()).hexdigest()}.npy"

    def keep(entry, seed, found):
        if seed == 0:
            file(entry).parent.mkdir(parents=True, exist_ok=True)
            np.save(file(entry), found.answers[: config.pictures])

    def one(entry, seed):
        found = fits.of(entry)
        train = trainer(
            fits.spec, found.parts(targets), drawing_goal(), config.training, keep=keep, quiet=quiet,
            draw=redrawer(fits.function, fits.points, found.start),
        )  # fmt: skip
        return train(entry, seed)

    done = run_rows(
        config.rows, config.training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    if published:
        place, theirs = published
        once = min(1, config.training.seeds)
        question = questions.editing(fits.function, fits.points)
        one = place.trainer(fits.spec, own.parts(targets), question, config.training)
        done |= peers.run_peers(theirs, once, one, folder / "rows.jsonl", about=about, quiet=quiet)
    for name, entry in config.rows.items():
        if name in done:
            drawn[name] = np.load(file(entry))
    picture(folder / f"{edit}.png", {name: fits.pixels(x)[..., 0] for name, x in drawn.items()})
    guesses = {UNCHANGED: before, MEAN: targets[fits.parts[0]].mean(axis=0)}
    return _trivial(guesses, targets[own.images[2]]) | done


def _trivial(guesses: dict[str, np.ndarray], targets: np.ndarray) -> dict[str, Any]:
    """What needs no training."""
    out = {}
    for name, guess in guesses.items():
        value = float(np.mean(np.square(guess - targets)))
        out[name] = {"seeds": 1, "scores": {"mse": {"mean": value, "std": None, "runs": [value]}}}
    return out


def _drawn(fits: ImageFits, params: Any) -> np.ndarray:
    """What networks draw, `(networks, pixels)`."""
    points = jnp.asarray(fits.points)
    run = jax.jit(lambda params: jax.lax.map(lambda p: draw(fits.function, p, points), params))
    return np.asarray(run(params))


def _on(config: Config, dataset: str) -> Config:
    return dataclasses.replace(
        config, drawings=dataclasses.replace(config.drawings, dataset=dataset)
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "inr_editing", __doc__, get_config, run, arguments, datasets=DATASETS, choose=_on,
        several={"edits": tuple(EDITS)}, published="editing",
    )  # fmt: skip


if __name__ == "__main__":
    main()
