"""How well does a small recurrent network or transformer do? From its weights alone.

`python -m experiments.sequence_models --size cpu` trains LSTMs on formal languages, GRUs that read
digits row by row, and vision transformers on digits, all with hyperparameters drawn at random; infers
their symmetry (gates that move together, heads, dims of heads) from the function of each population;
and predicts their accuracy as `experiments.generalisation` does for CNNs: R2 and Kendall's tau on runs
that no method has seen, beside weight statistics and hyperparameters with plain predictors.

After Zhou et al., "Universal neural functionals", 2024, who report a tau of .897 for UNF, .884 for
statistics and .831 for a Deep Set on 10,000 GRUs of another task that were not released: other data,
so those are no numbers to compare with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.sequence_models import POPULATIONS, Config, get_config
from experiments._metanetworks import success
from experiments._metanetworks.populations import population
from experiments._metanetworks.study import command_line
from experiments._metanetworks.table import report, run_rows, text


def run(config: Config, folder: Path, *, data: Any, command: str, quiet: bool) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    tables, abouts = {}, {}
    for name in config.populations:
        if not quiet:
            print(f"\n{name}", flush=True)
        abouts[name], tables[name] = _table(config, name, folder, data=data, quiet=quiet)
        if not quiet:
            print(text(tables[name], ("r2", "tau")), flush=True)
    return report(folder / "results.json", command=command, about=abouts, rows=tables)


def _table(
    config: Config, name: str, folder: Path, *, data: Any, quiet: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One population: what it is, and its rows."""
    zoo, target = POPULATIONS[name]
    networks = population(
        zoo, size=config.zoo_size, folder=folder / "zoos", data=data, quiet=quiet,
        changes={**config.changes, "seed": config.seed},
    )  # fmt: skip
    question = success.ask(networks, target, seed=config.seed)
    about = question.about() | {
        "zoo": zoo, "size": config.zoo_size, "changes": dict(config.changes),
        "left out": len(networks) - len(question.networks), "axes": dict(networks.spec.axes),
        "training": config.training.told(),
    }  # fmt: skip
    place = folder / name
    one = success.row_trainer(question, config.training, quiet=quiet)
    rows = run_rows(
        config.rows, config.training.seeds, one, place / "rows.jsonl", about=about, quiet=quiet
    )
    return about, rows | success.baselines(
        question, config.predictors, place / "baselines.json", about
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "sequence_models", __doc__, get_config, run, arguments,
        several={"populations": tuple(POPULATIONS)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
