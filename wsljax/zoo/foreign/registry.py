"""One entry for all foreign formats: by name, or by what a folder looks like."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsljax.zoo.population import Population


class ForeignZooError(ValueError):
    """Files that are not what their format says, or do not agree with each other."""


class Format(NamedTuple):
    """A way in which others keep networks.

    Attributes:
        name: as in `read_foreign(path, name)`.
        read: `read(path, **options)`.
        matches: whether a path looks like this format; reads names of files, at most a header.
        about: one line.
    """

    name: str
    read: Callable[..., Any]
    matches: Callable[[Path], bool]
    about: str


#: name -> `Format`: every foreign format that can be read.
FOREIGN: dict[str, Format] = {}


def foreign_format(name: str, matches: Callable[[Path], bool]) -> Callable[[Callable], Callable]:
    """Decorator: makes a reader known to `read_foreign`; its docstring begins with one line about it.

    Example:
        >>> @foreign_format("documented", lambda path: False)
        ... def read_documented(path, scale=1.0):
        ...     \"\"\"Networks of a doctest.\"\"\"
        ...     return Population({"w": np.ones((2, 3))}, {})
        >>> len(read_foreign(".", "documented")), FOREIGN.pop("documented").about
        (2, 'Networks of a doctest.')
    """

    def register(read: Callable[..., Any]) -> Callable[..., Any]:
        if name in FOREIGN:
            raise ValueError(f"a foreign format {name!r} is registered already.")
        about = (inspect.getdoc(read) or name).splitlines()[0]
        FOREIGN[name] = Format(name, read, matches, about)
        return read

    return register


def read_foreign(
    path: str | os.PathLike,
    format: str = "auto",
    *,
    drop_nonfinite: bool = False,
    **options: Any,
) -> Any:
    """The networks that others have published, as a population.

    No code in the files runs. Pickles are refused, but for the `plain=True` and `trusted=True` of
    the formats that are pickles. Networks with weights that are not finite are kept, and told by the
    boolean column `finite`.

    Args:
        path: a folder or file of a format in `zoo.FOREIGN`.
        format: its name; "auto" tells it by the names of files.
        drop_nonfinite: leave out networks with weights that are NaN or infinite.
        **options: of the reader, see `zoo.FOREIGN[format].read`.

    Returns:
        A `Population`, with its function where the format is of known architecture; of formats of
        mixed architectures a dictionary of populations.

    Raises:
        ForeignZooError: no format or several fit, or the files contradict each other.
        FileNotFoundError: there is no such path.
        ValueError: an unknown format or option; names those that there are.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    chosen = _tell(path) if format == "auto" else FOREIGN.get(format)
    if chosen is None:
        raise ValueError(f"unknown format {format!r}; there are {', '.join(sorted(FOREIGN))}.")
    known = [p for p in inspect.signature(chosen.read).parameters if p != "path"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        has = ", ".join(known) or "none"
        raise ValueError(f"the reader of {chosen.name!r} has no options {unknown}; it has: {has}.")
    out = chosen.read(path, **options)
    if not drop_nonfinite:
        return out
    if isinstance(out, Mapping):
        kept = {name: _finite(population) for name, population in out.items()}
        return {name: population for name, population in kept.items() if len(population)}
    return _finite(out)


def _finite(population: Population) -> Population:
    return population.take(np.asarray(population.columns["finite"]))


def _tell(path: Path) -> Format:
    found = [entry for entry in FOREIGN.values() if entry.matches(path)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found)
        raise ForeignZooError(f"{path} may be {names}; say which by `format=`.")
    table = "\n".join(f"  {entry.name}: {entry.about}" for entry in FOREIGN.values())
    raise ForeignZooError(
        f"{path} looks like none of the formats; say which by `format=`:\n{table}"
    )
