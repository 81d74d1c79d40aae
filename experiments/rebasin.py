"""What lies between trained networks, before and after alignment.

`python -m experiments.rebasin --size cpu --data FOLDER` trains pairs and groups of networks from other seeds
(MLPs by width, residual networks with LayerNorm and BatchNorm, a vision transformer, a GPT), aligns them in
several ways, and measures loss and accuracy along the line between them; with REPAIR and statistics reset along
the line; along Bezier curves and geodesics; and of the average of many. Transformers are aligned by
permutations alone, and by all that leaves their function as it is once their norms are folded.

Barriers are the largest excess over the line between the values of both ends (see
`wsljax.understanding.connectivity.barrier`). Every row is trained with several seeds; intervals are 95% by
Student's t. Without `--data` the digits of scikit-learn stand in. What has been trained and measured is kept; an
interrupted run goes on. `--out` also writes the table and the figures to another folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from configs._metanetworks import SIZES
from configs.rebasin import Config, Row, get_config
from experiments._metanetworks.study import add_seeds, chosen_rows, with_seeds
from experiments._metanetworks.table import report, run_rows
from experiments._rebasin.measure import fitted, lines, merges
from experiments._rebasin.published import beside
from experiments._rebasin.report import figures, tables, with_intervals
from experiments._rebasin.trained import Trained


def run(
    config: Config, folder: Path, *, data: Any, command: str, quiet: bool, out: Path | None = None
) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    about = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("rows", "seeds")}
    about["given data"] = data is not None
    study = Study(config, folder, data, quiet)
    rows: dict[str, Any] = {}
    for name, row in config.rows.items():
        rows |= run_rows(
            {name: row}, config.seeds, study.one, folder / "rows.jsonl", about=about, quiet=True
        )
        if not quiet:
            print(tables(with_intervals({name: rows[name]})), flush=True)
        rows = with_intervals(rows)
        for place in {folder, out or folder}:
            found = report(
                place / "results.json", command=command, about=about, rows=rows,
                published=beside(rows), missing=[n for n in config.rows if n not in rows],
            )  # fmt: skip
            figures(place, rows, config.rows)
    return found


class Study:
    """Trains the networks of a row when the first of its seeds is asked for."""

    def __init__(self, config: Config, folder: Path, data: Any, quiet: bool):
        self.config, self.folder, self.data, self.quiet = config, folder, data, quiet
        self._row: Row | None = None
        self._trained: Trained | None = None

    def one(self, row: Row, seed: int) -> dict[str, Any]:
        """Everything that is measured of one seed."""
        trained = self._of(row)
        start = time.perf_counter()
        members = trained.members(seed)
        key = jax.random.fold_in(jax.random.key(self.config.seed), seed)
        found = lines(trained, members, key)
        scores, curves = found["scores"], found["curves"]
        if row.curves:
            more = fitted(trained, members, key)
            scores, curves = scores | more["scores"], curves | more["curves"]
        if row.members > 2:
            scores |= merges(trained, members, key)["scores"]
        return {
            "scores": scores, "curves": curves, "data": trained.samples.source,
            "images": [len(trained.train[0]), len(trained.test[0])],
            "parameters": sum(x.size for x in jax.tree.leaves(members[0])),
            "seconds": time.perf_counter() - start,
        }  # fmt: skip

    def _of(self, row: Row) -> Trained:
        if self._row != row or self._trained is None:
            what = f"{row} {self.config.seeds} {self.config.seed} {self.data is None}"
            word = f"{row.network}_{row.width}_{hashlib.sha256(what.encode()).hexdigest()[:8]}"
            place = self.folder / "networks" / word
            self._trained = Trained(row, self.config, self.data, place, self.quiet)
            self._row = row
        return self._trained


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="experiments.rebasin", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--rows", nargs="*", help="rows of the table; default all")
    add_seeds(parser)
    parser.add_argument("--folder", type=Path, help="default runs/rebasin/<size>")
    parser.add_argument("--out", type=Path, help="results.json and figures go there, too")
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    config = get_config(given.size)
    command = f"python -m experiments.rebasin --size {given.size}"
    if given.rows is not None:
        config = dataclasses.replace(config, rows=chosen_rows(dict(config.rows), given.rows))
    config, command = with_seeds(config, command, given.seeds)
    command += " --data FOLDER" if given.data else ""
    folder = given.folder or Path("runs/rebasin") / given.size
    return run(config, folder, data=given.data, command=command, quiet=given.quiet, out=given.out)


if __name__ == "__main__":
    main()
    sys.exit(0)
