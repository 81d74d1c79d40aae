"""How well does a small convolutional network generalise? From its weights alone.

`python -m experiments.generalisation --size cpu` trains networks with hyperparameters drawn at random
(Unterthiner 2020), infers their symmetry, trains every method of the table on the same networks, and
prints R2 and Kendall's tau on runs that no method has seen, beside weight statistics and hyperparameters
with trees, ridge and an MLP. What has been trained is kept; an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.generalisation import Config, get_config
from experiments._metanetworks import peers, questions, success
from experiments._metanetworks.populations import population
from experiments._metanetworks.study import DATASETS, command_line
from experiments._metanetworks.table import report, run_rows, text


def run(
    config: Config, folder: Path, *, data: Any, command: str, quiet: bool, published: Any = None
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    networks = population(
        config.zoo, size=config.zoo_size, folder=folder / "zoos", data=data, quiet=quiet,
        changes={**config.changes, "seed": config.seed},
    )  # fmt: skip
    question = success.ask(networks, config.target, seed=config.seed, last_only=config.last_only)
    about = question.about() | {
        "zoo": config.zoo, "size": config.zoo_size, "changes": dict(config.changes),
        "left out": len(networks) - len(question.networks),
        "training": config.training.told(),
    }  # fmt: skip
    one = success.row_trainer(question, config.training, quiet=quiet)
    rows = run_rows(
        config.rows, config.training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    if published:
        place, theirs = published
        once = min(1, config.training.seeds)
        odd = [questions.odd_activations(question.networks.take(part)) for part in question.split]
        one = place.trainer(
            question.networks.spec,
            question.parts,
            questions.regression(),
            config.training,
            tanh=odd,
        )
        rows |= peers.run_peers(theirs, once, one, folder / "rows.jsonl", about=about, quiet=quiet)
    rows |= success.baselines(question, config.predictors, folder / "baselines.json", about)
    if not quiet:
        print(text(rows, ("r2", "tau")))
    return report(folder / "results.json", command=command, about=about, rows=rows)


def _on(config: Config, dataset: str) -> Config:
    options = {**config.changes.get("options", {}), "dataset": dataset}
    return dataclasses.replace(config, changes={**config.changes, "options": options})


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "generalisation", __doc__, get_config, run, arguments, datasets=DATASETS, choose=_on,
        published="regression",
    )  # fmt: skip


if __name__ == "__main__":
    main()
