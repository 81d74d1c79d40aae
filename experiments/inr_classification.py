"""Which class does the image have that a sine network draws? From its weights alone.

`python -m experiments.inr_classification --size cpu` fits a sine network to each image (as the DWSNets data
were: 2-32-32-1, frequency 30, each of its own start), infers the symmetry of their function, trains every
method of the table on the same networks with the same number of steps, and prints accuracies on held-out
images, with the trivial baselines. Rows that begin with a plus are the recipe, one thing after another:
signs of sines as augmentation, learned probes, layers that are equivariant to signs, several networks
of each training image, fits from one learnt start (which are other networks of the same images). What has
been trained is kept; an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs._metanetworks import Entry
from configs.inr_classification import Config, get_config
from experiments._metanetworks import peers, questions
from experiments._metanetworks.image_fits import ImageFits
from experiments._metanetworks.learn import classification
from experiments._metanetworks.reading import reader
from experiments._metanetworks.study import DATASETS, command_line, trainer
from experiments._metanetworks.table import report, run_rows, text

OWN = Entry("universal")
"""Reads networks of starts of their own, one an image, as published networks do."""


def run(
    config: Config, folder: Path, *, data: Any, command: str, quiet: bool, published: Any = None
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    fits = ImageFits(config.drawings, folder / "zoos", seed=config.seed, data=data, quiet=quiet)
    goal = classification(int(fits.labels.max()) + 1)
    about = {
        "drawings": dataclasses.asdict(config.drawings), "images": len(fits.labels),
        "split": [len(part) for part in fits.parts], "seed": config.seed,
        "training": config.training.told(),
    }  # fmt: skip

    def compute(params, x):
        return fits.function.apply(params, x[None])[0]

    def one(entry, seed):
        found = fits.of(entry)
        parts = found.parts(fits.labels)
        draw = reader(compute, fits.points, found.start)
        train = trainer(fits.spec, parts, goal, config.training, draw=draw, quiet=quiet)
        return {
            **train(entry, seed), "psnr": found.psnr, "networks": len(parts[0].targets),
        }  # fmt: skip

    rows = run_rows(
        config.rows, config.training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    if published:
        place, theirs = published
        once = min(1, config.training.seeds)
        own = fits.of(OWN).parts(fits.labels)
        one = place.trainer(fits.spec, own, questions.classification(goal), config.training)
        rows |= peers.run_peers(theirs, once, one, folder / "rows.jsonl", about=about, quiet=quiet)
    rows["always the commonest class"] = {"scores": _constant(fits), "seeds": 1}
    if not quiet:
        print(text(rows, ("accuracy", "cross_entropy")))
    return report(folder / "results.json", command=command, about=about, rows=rows)


def _constant(fits: ImageFits) -> dict[str, Any]:
    """What guessing gives: the commonest class of the training images."""
    first, _, third = (fits.labels[part] for part in fits.parts)
    value = float(np.mean(third == np.bincount(first).argmax()))
    return {"accuracy": {"mean": value, "std": None, "runs": [value]}}


def _on(config: Config, dataset: str) -> Config:
    return dataclasses.replace(
        config, drawings=dataclasses.replace(config.drawings, dataset=dataset)
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "inr_classification", __doc__, get_config, run, arguments, datasets=DATASETS, choose=_on,
        published="classification",
    )  # fmt: skip


if __name__ == "__main__":
    main()
