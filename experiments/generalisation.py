"""How well does a small convolutional network generalise? From its weights alone.

`python -m experiments.generalisation --size cpu` trains networks with hyperparameters drawn at random
(Unterthiner 2020), infers their symmetry, trains every method of the table on the same networks, and
prints R2 and Kendall's tau on runs that no method has seen, beside weight statistics and hyperparameters
with trees, ridge and an MLP. What has been trained is kept; an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs.generalisation import Config, get_config
from experiments._metanetworks.learn import Part, logit, regression
from experiments._metanetworks.populations import population
from experiments._metanetworks.study import DATASETS, command_line, trainer
from experiments._metanetworks.table import report, run_rows, text
from wsljax import representation, zoo
from wsljax.representation.baselines.evaluate import PREDICTORS

SPLIT = (0.7, 0.15, 0.15)


def run(config: Config, folder: Path, *, data: Any, command: str, quiet: bool) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    networks = population(
        config.zoo, size=config.zoo_size, folder=folder / "zoos", data=data, quiet=quiet,
        changes={**config.changes, "seed": config.seed},
    )  # fmt: skip
    every = len(networks)
    if config.last_only:
        networks = networks.take(
            zoo.last_checkpoints(networks.columns["run"], networks.columns["step"])
        )
    networks = networks.take(zoo.finite_members(networks))
    split = zoo.split(np.asarray(networks.columns["run"]), SPLIT, key=jax.random.key(config.seed))
    parts = tuple(
        Part(p.params, np.asarray(p.columns[config.target], np.float32))
        for p in map(networks.take, split)
    )
    scores = logit(parts[0].targets)
    goal = regression((float(np.mean(scores)), float(np.std(scores))))
    about = {
        "zoo": config.zoo, "size": config.zoo_size, "changes": dict(config.changes),
        "networks": len(networks), "left out": every - len(networks), "target": config.target,
        "split": [len(p.targets) for p in parts], "seed": config.seed,
        "training": dataclasses.asdict(config.training),
    }  # fmt: skip
    one = trainer(networks.spec, parts, goal, config.training, quiet=quiet)
    rows = run_rows(
        config.rows, config.training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    rows |= _baselines(networks, config, split, folder / "baselines.json", about)
    if not quiet:
        print(text(rows, ("r2", "tau")))
    return report(folder / "results.json", command=command, about=about, rows=rows)


def _baselines(networks, config, split, file: Path, about) -> dict[str, Any]:
    """Statistics and hyperparameters with plain predictors; they have no seed, so they are run once."""
    about = json.loads(json.dumps(about, default=str))
    kept = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("about") != about:
        found = representation.evaluate_baselines(
            networks,
            config.target,
            split,
            key=jax.random.key(config.seed),
            predictors={name: PREDICTORS[name] for name in config.predictors},
        )
        kept = {"about": about, "rows": found}
        file.write_text(json.dumps(kept))
    out = {}
    for row in kept["rows"]:
        scores = {"r2": row["r2"], "tau": row["kendall"]}
        out[f"{row['features']} + {row['predictor']}"] = {
            "seeds": 1,
            "scores": {
                name: {"mean": v[0], "std": None, "interval": v[1:], "runs": v[:1]}
                for name, v in scores.items()
            },
        }
    return out


def _on(config: Config, dataset: str) -> Config:
    options = {**config.changes.get("options", {}), "dataset": dataset}
    return dataclasses.replace(config, changes={**config.changes, "options": options})


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "generalisation", __doc__, get_config, run, arguments, datasets=DATASETS, choose=_on
    )


if __name__ == "__main__":
    main()
