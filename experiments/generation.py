"""Do generators draw networks that are both new and good? Beside held-out networks and trivial baselines.

`python -m experiments.generation --size cpu` trains zoos of classifiers (iris, breast cancer, digits) and of
sine networks that draw digits (with `--data` those of MNIST, without and with the class told), fits flows and
diffusion to them - to networks as they are, to copies with permuted units, to canonical ones, with paths through
the quotient, with an equivariant denoiser - and judges all that they draw, none left out, in one table: quality,
novelty in weights, up to symmetry and of functions, copying, diversity. Nothing is selected on test data; rows that
read training data while or after they draw say so by "gradient" or "steps after"; "narrow" denoisers have as many
parameters as the equivariant one. Networks that are "refitted" lie about one new start: far from all training
networks, good, and close to each other, so read 1-NNA and coverage beside their novelty. What sine networks draw
is shown, the first of each row. What has been done is kept; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from configs._metanetworks import SIZES
from configs.generation import Config, Row, Study, get_config
from experiments._generation.drawn import Source, draw
from experiments._generation.judged import Judge
from experiments._generation.report import figure, file_name, pictures, save_pictures, table
from experiments._generation.zoos import open_zoo
from experiments._metanetworks.study import add_seeds, chosen_rows, with_seeds
from experiments._metanetworks.table import report, run_rows
from wsljax import train

SHOWN = 20
"""Of the networks of each row, the first: never chosen."""


def run(
    config: Config,
    folder: Path,
    *,
    command: str,
    data: str | None = None,
    quiet: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in `out` (default: the folder)."""
    found = {}
    for name, study in config.studies.items():
        found[name] = _study(name, study, config, folder, data=data, quiet=quiet)
        if not quiet:
            print(f"\n{name}\n{table(found[name]['rows'])}", flush=True)
    out = folder if out is None else out
    about = {"seeds": config.seeds, "resamples": config.resamples}
    result = report(out / "results.json", command=command, about=about, rows=found)
    figure(out / "generation.png", {name: study["rows"] for name, study in found.items()})
    for name, study in found.items():
        pictures(out / f"{file_name(name)}.png", folder / file_name(name), study["rows"])
    return result


def _study(
    name: str, study: Study, config: Config, folder: Path, *, data: str | None, quiet: bool
) -> dict[str, Any]:
    """Rows of one zoo; networks are opened and measured only if a row is missing."""
    options = {
        "name": study.zoo, "folder": folder / "zoos", "data": data, "size": study.zoo_size,
        "models": study.models, "training": study.training_runs, "held_out": study.held_out_runs,
        "quiet": True,
    }  # fmt: skip
    about = {
        field.name: getattr(study, field.name)
        for field in dataclasses.fields(study) if field.name != "rows"
    }  # fmt: skip
    about |= {"training": dataclasses.asdict(study.training), "resamples": config.resamples}
    made: dict[str, Any] = {}

    def one(row: Row, seed: int) -> dict[str, Any]:
        if not made:
            opened = open_zoo(**options)
            made["source"] = Source(study, opened, options)
            made["judge"] = Judge(study, opened, config.resamples)
        steps = study.training.steps
        with train.progress(steps, name, enabled=False if quiet else None) as bar:
            drawn = draw(row, made["source"], seed, log=bar)
        judged = made["judge"](
            drawn.networks, name, held_out=row.family == "held-out", asked=drawn.asked
        )
        if made["source"].zoo.images is not None and seed == 0:
            label = next(label for label, known in study.rows.items() if known == row)
            first = jax.tree.map(lambda x: x[:SHOWN], drawn.networks)
            save_pictures(folder / file_name(name), label, made["judge"].pictures(first))
        return judged | {
            "parameters": drawn.parameters, "seconds": drawn.seconds, "history": drawn.history,
        }  # fmt: skip

    file = folder / f"{file_name(name)}.jsonl"
    rows = run_rows(study.rows, config.seeds, one, file, about=about, quiet=True)
    return {"about": about, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="experiments.generation", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--folder", type=Path, help="default runs/generation/<size>")
    parser.add_argument(
        "--out", type=Path, help="of results.json and the figure; default: the folder"
    )
    parser.add_argument("--studies", nargs="+", help="default all")
    parser.add_argument("--rows", nargs="+", help="rows of them; default all")
    add_seeds(parser)
    parser.add_argument("--data", help="a folder with mnist/")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    config = get_config(given.size)
    if given.studies is not None:
        studies = chosen_rows(dict(config.studies), given.studies)
        config = dataclasses.replace(config, studies=studies)
    if given.rows is not None:
        known = {n for study in config.studies.values() for n in study.rows}
        if set(given.rows) - known:
            raise SystemExit(
                f"--rows: {sorted(set(given.rows) - known)} not among {sorted(known)}."
            )
        studies = {
            name: dataclasses.replace(
                study, rows={n: r for n, r in study.rows.items() if n in given.rows}
            )
            for name, study in config.studies.items()
        }
        config = dataclasses.replace(config, studies={n: s for n, s in studies.items() if s.rows})
    folder = given.folder or Path("runs") / "generation" / given.size
    command = f"python -m experiments.generation --size {given.size}"
    config, command = with_seeds(config, command, given.seeds)
    command += " --data FOLDER" if given.data else ""
    return run(config, folder, command=command, data=given.data, quiet=given.quiet, out=given.out)


if __name__ == "__main__":
    main()
