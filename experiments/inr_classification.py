"""Which class does the image have that a sine network draws? From its weights alone.

`python -m experiments.inr_classification --size cpu` fits a sine network to each image (DWSNets layout:
2-32-32-1, frequency 30, each of its own start), infers the symmetry of their function, trains every
method of the table on the same networks with the same number of steps, and prints accuracies on held-out
images, with the trivial baselines. What has been trained is kept; an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.inr_classification import Config, get_config
from experiments._metanetworks.learn import classification
from experiments._metanetworks.populations import parts_of, population
from experiments._metanetworks.study import DATASETS, command_line, trainer
from experiments._metanetworks.table import report, run_rows, text


def run(config: Config, folder: Path, *, data: Any, command: str, quiet: bool) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    networks = population(
        "dws_siren", size=config.zoo_size, folder=folder / "zoos", data=data, quiet=quiet,
        changes={
            "models": config.networks, "seed": config.seed,
            "options": {"dataset": config.dataset, "count": config.networks},
        },
    )  # fmt: skip
    parts = parts_of(networks, "label", seed=config.seed)
    labels = np.asarray(networks.columns["label"])
    goal = classification(int(labels.max()) + 1)
    about = {
        "dataset": config.dataset, "networks": len(networks), "seed": config.seed,
        "split": [len(p.targets) for p in parts], "training": dataclasses.asdict(config.training),
        "psnr": float(np.mean(networks.columns["psnr"])),
    }  # fmt: skip
    one = trainer(networks.spec, parts, goal, config.training, quiet=quiet)
    rows = run_rows(
        config.rows, config.training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    counts = np.bincount(labels)
    rows["always the commonest class"] = {"scores": _constant(parts, counts), "seeds": 1}
    if not quiet:
        print(text(rows, ("accuracy", "cross_entropy")))
    return report(folder / "results.json", command=command, about=about, rows=rows)


def _constant(parts, counts) -> dict[str, Any]:
    """What guessing gives: the commonest class of the training networks."""
    first, _, third = parts
    common = np.bincount(first.targets, minlength=len(counts)).argmax()
    value = float(np.mean(third.targets == common))
    return {"accuracy": {"mean": value, "std": None, "runs": [value]}}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "inr_classification", __doc__, get_config, run, arguments, datasets=DATASETS
    )


if __name__ == "__main__":
    main()
