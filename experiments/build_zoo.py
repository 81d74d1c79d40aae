"""Build a zoo of the literature: drawn, trained, measured, stored, and opened again.

`python -m experiments.build_zoo --config configs/zoo/<name>.py [--size tiny|small|full]` writes the
networks to `runs/zoo/<name>/networks`, for `zoo.open`, and what was built to `built.json`. It works on
data that scikit-learn ships; `--data FOLDER` takes MNIST and its kin from files. A build that was
interrupted goes on where it was when it is called again, with identical results.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.zoo._config import SIZES, ZooConfig, part_configs
from experiments._zoo.build import Builder, claim
from experiments._zoo.data import data_folder
from experiments._zoo.report import describe, table

CONFIGS = Path(__file__).parents[1] / "configs" / "zoo"


def build(
    config: ZooConfig,
    folder: str | Path,
    *,
    data: str | Path | None = None,
    quiet: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Build all parts of a zoo.

    Args:
        config: what to build.
        folder: of the zoo; of a zoo of several parts each has a folder in it.
        data: a folder of image files; default that of the variable WSLJAX_DATA.
        quiet: neither bars nor tables.
        command: that asked for it, to be kept in `built.json`.

    Returns:
        What `built.json` holds, for each part.

    Raises:
        SystemExit: the folder holds another zoo.
    """
    files, reports = data_folder(data), {}
    for name, part in part_configs(config).items():
        place = Path(folder) / name
        builder = Builder(part, place, files, quiet=quiet)
        claim(place, part, builder.task.source)
        stored = builder.build()
        reports[name] = describe(builder, stored)
        if not quiet:
            print(table(reports[name], f"{config.name} {name}".strip()), flush=True)
    about = {"command": command, "name": config.name, "paper": config.paper}
    text = json.dumps({**about, "parts": reports}, indent=1)
    (Path(folder) / "built.json").write_text(text + "\n")
    return reports


def load_config(path: str | Path, size: str) -> ZooConfig:
    """The config in a file, at a size.

    Raises:
        SystemExit: there is no such file, or it has no `get_config(size)`.
    """
    path = Path(path)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in CONFIGS.glob("[!_]*.py")))
        raise SystemExit(f"there is no config {path}; configs/zoo has {there}.")
    spec = importlib.util.spec_from_file_location(f"zoo_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise SystemExit(f"{path} has no `get_config(size)` that gives a ZooConfig.")
    try:
        return module.get_config(size)
    except ValueError as e:
        raise SystemExit(f"{path}: {e}") from None


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line; returns what was built."""
    parser = argparse.ArgumentParser(prog="experiments.build_zoo", description=__doc__)
    parser.add_argument("--config", required=True, help="a file of configs/zoo")
    parser.add_argument("--size", default="small", help=f"{', '.join(SIZES)}; default small")
    parser.add_argument("--folder", help="default runs/zoo/<name>, with the size unless it is full")
    parser.add_argument("--models", type=int, help="training runs of each part")
    parser.add_argument("--seed", type=int, help="of everything; default 0")
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/, cifar10/")
    parser.add_argument("--parts", help="of a zoo of several parts: those to build, with commas")
    parser.add_argument("--quiet", action="store_true", help="no bars and tables")
    given = parser.parse_args(arguments)
    config = load_config(given.config, given.size)
    if given.parts:
        chosen = given.parts.split(",")
        unknown = sorted(set(chosen) - set(config.parts))
        if unknown:
            raise SystemExit(f"--parts: {unknown} not among {sorted(config.parts) or 'none'}.")
        config = dataclasses.replace(config, parts={name: config.parts[name] for name in chosen})
    changes = {n: getattr(given, n) for n in ("models", "seed") if getattr(given, n) is not None}
    if changes.get("models", 1) < 1:
        raise SystemExit(f"--models is {given.models}; it is 1 or more.")
    parts = {name: {**part, **changes} for name, part in config.parts.items()}
    config = dataclasses.replace(config, parts=parts, **changes)
    usual = Path("runs/zoo") / config.name / ("" if given.size == "full" else given.size)
    words = {n: getattr(given, n) for n in ("size", "models", "seed", "parts")}
    said = "".join(f" --{n} {word}" for n, word in words.items() if word is not None)
    command = f"python -m experiments.build_zoo --config configs/zoo/{config.name}.py{said}"
    options = {"data": given.data, "quiet": given.quiet, "command": command}
    try:
        if data_folder(given.data) is not None:
            options["command"] += " --data FOLDER"
        return build(config, given.folder or usual, **options)
    except FileNotFoundError as e:
        raise SystemExit(str(e)) from None


if __name__ == "__main__":
    main()
    sys.exit(0)
