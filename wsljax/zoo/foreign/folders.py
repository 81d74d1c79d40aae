"""Finding files: always in the same order, and never outside of the folder given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from wsljax.zoo.foreign.registry import ForeignZooError


def natural(path: Path | str) -> tuple:
    """A key that sorts `net2` before `net10`, and otherwise by name.

    Example:
        >>> sorted(["net10", "net2", "aug"], key=natural)
        ['aug', 'net2', 'net10']
    """
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(part), part) if part.isdigit() else (0, part) for part in parts)


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What a glob finds, sorted: file systems list in any order, and splits hang on it."""
    return sorted(folder.glob(pattern), key=natural)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    found = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=natural)


def matching(paths: list[Path], pattern: str) -> Iterator[tuple[Path, re.Match[str]]]:
    """The paths whose whole name fits a regular expression, with the match."""
    for path in paths:
        match = re.fullmatch(pattern, path.name)
        if match:
            yield path, match


def inside(root: Path, name: object, where: str) -> Path:
    """A path that a file of the data set names, below `root`.

    Raises:
        ForeignZooError: it is no text, absolute, or leads out of `root`.

    Example:
        >>> inside(Path("zoo"), "a/b.pth", "splits.json").as_posix()
        'zoo/a/b.pth'
    """
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        raise ForeignZooError(f"{where} has a path {name!r:.100}.")
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise ForeignZooError(f"{where} has a path {name!r:.100}, which leads out of {root}.")
    return root / parts


def the_only(found: list[Path], what: str, folder: Path) -> Path:
    """The one file of its kind.

    Raises:
        ForeignZooError: there is none, or there are several.
    """
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ForeignZooError(f"{folder} should have one {what}; it has: {names}.")
    return found[0]
