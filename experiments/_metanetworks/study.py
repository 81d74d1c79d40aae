"""What the studies have in common: their command line, and the training of one row."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs._metanetworks import SIZES, Entry, Training
from experiments._metanetworks import peers
from experiments._metanetworks.learn import Draw, Goal, Learnt, Part, learn
from wsljax import train
from wsljax.symmetry import Spec

DATASETS = ("mnist", "fashion_mnist")


def command_line(
    study: str,
    about: str | None,
    get_config: Callable[[str], Any],
    run: Callable[..., dict[str, Any]],
    arguments: Sequence[str] | None = None,
    *,
    datasets: Sequence[str] = (),
    choose: Callable[[Any, str], Any] | None = None,
    several: Mapping[str, Sequence[str]] | None = None,
    published: str | None = None,
) -> dict[str, Any]:
    """Read the command line of a study, and run it.

    Args:
        study: name of the module in `experiments`.
        about: its docstring.
        get_config: the config of a size; a dataclass with `rows`, a dict by name.
        run: `run(config, folder, data=, command=, quiet=)`.
        arguments: of the command line; None for those of the process.
        datasets: what `--dataset` may be, the default first; without any there is no such option.
        choose: `choose(config, dataset)`; None if the config has a field `dataset`.
        several: fields of the config that are tuples of words, and what words there are; each is an
            option, by default as the config has it.
        published: kind of the question, if published code is to be asked it too (`peers.CANNOT`): `run`
            then gets `published=`, a pair of where that code is and of its rows, or None.

    Returns:
        What `run` does.
    """
    parser = argparse.ArgumentParser(prog=f"experiments.{study}", description=about)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    if datasets:
        parser.add_argument("--dataset", choices=tuple(datasets), default=datasets[0])
    where = "<dataset>_<size>" if datasets else "<size>"
    parser.add_argument("--folder", type=Path, help=f"default runs/{study}/{where}")
    parser.add_argument("--rows", nargs="*", help="rows of the table; default all")
    for name, words in (several or {}).items():
        parser.add_argument(f"--{name}", nargs="+", choices=tuple(words), help="default by size")
    parser.add_argument(
        "--steps", type=int, help="optimiser steps of each training; default by size"
    )
    add_seeds(parser)
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/")
    parser.add_argument("--quiet", action="store_true")
    if published:
        peers.add_arguments(parser)
    given = parser.parse_args(arguments)
    config = get_config(given.size)
    command, name = f"python -m experiments.{study} --size {given.size}", given.size
    if datasets:
        choose = choose or (lambda c, dataset: dataclasses.replace(c, dataset=dataset))
        config = choose(config, given.dataset)
        command, name = f"{command} --dataset {given.dataset}", f"{given.dataset}_{given.size}"
    theirs: dict[str, Any] = {}
    for rate in given.peer_rates if published else ():
        theirs |= peers.peer_rows(published, rate)
    if given.rows is not None:
        chosen = chosen_rows({**config.rows, **theirs}, given.rows)
        theirs = {name: row for name, row in chosen.items() if name in theirs}
        ours = {name: row for name, row in chosen.items() if name not in theirs}
        config = dataclasses.replace(config, rows=ours)
    for field in several or ():
        if getattr(given, field):
            config = dataclasses.replace(config, **{field: tuple(getattr(given, field))})
            command += f" --{field} {' '.join(getattr(given, field))}"
    command += " --data FOLDER" if given.data else ""
    for field in ("steps", "seeds"):
        if (number := getattr(given, field)) is not None:
            training = dataclasses.replace(config.training, **{field: number})
            config = dataclasses.replace(config, training=training)
            command += f" --{field} {number}"
    folder = given.folder or Path("runs") / study / name
    more = {}
    if published:
        place = peers.from_arguments(given)
        if place:
            command += " --peers FOLDER --torch-python PYTHON"
            rates = " ".join(given.peer_rates)
            command += "" if rates == "study" else f" --peer-rates {rates}"
        if given.rows is not None and theirs and place is None:
            raise SystemExit(
                f"--rows: {sorted(theirs)} are published code; say where with --peers."
            )
        more["published"] = (place, theirs) if place else None
    return run(config, folder, data=given.data, command=command, quiet=given.quiet, **more)


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """The option that `with_seeds` reads."""
    parser.add_argument("--seeds", type=int, help="trainings of each row; 0: show what is there")


def with_seeds(config: Any, command: str, seeds: int | None) -> tuple[Any, str]:
    """A config whose `seeds` are those that were asked for, and the command with them."""
    if seeds is None:
        return config, command
    return dataclasses.replace(config, seeds=seeds), f"{command} --seeds {seeds}"


def chosen_rows(rows: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Some rows of a table, by name.

    Raises:
        SystemExit: there is no such row.
    """
    unknown = sorted(set(names) - set(rows))
    if unknown:
        raise SystemExit(f"--rows: {unknown} not among {sorted(rows)}.")
    return {name: rows[name] for name in names}


def trainer(
    spec: Spec,
    parts: tuple[Part, Part, Part],
    goal: Goal,
    training: Training,
    *,
    draw: Draw | None = None,
    keep: Callable[[Entry, int, Learnt], None] | None = None,
    quiet: bool = False,
) -> Callable[[Entry, int], dict[str, Any]]:
    """What `table.run_rows` takes: trains an entry with a seed, and says what is kept of it.

    Args:
        spec, parts, goal, training, draw: see `learn`.
        keep: `keep(entry, seed, learnt)`, called with all that came of it.
        quiet: no bar.
    """

    def one(entry: Entry, seed: int) -> dict[str, Any]:
        enabled = False if quiet else None
        with train.progress(training.steps, entry.method, enabled=enabled) as bar:
            found = learn(entry, spec, parts, goal, training, seed=seed, log=bar, draw=draw)
        if keep is not None:
            keep(entry, seed, found)
        return {
            name: getattr(found, name) for name in ("scores", "parameters", "seconds", "history")
        }

    return one
