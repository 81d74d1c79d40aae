"""Tables of metadata: CSV files, JSON files, and what becomes a column of a population."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsljax.zoo.foreign.registry import ForeignZooError

MAX_TABLE_BYTES = 2**31


def read_bytes(path: Path, max_bytes: int = MAX_TABLE_BYTES) -> bytes:
    """A file, unpacked if its name ends in `.gz`.

    Raises:
        ForeignZooError: it is damaged, or unpacks to more than `max_bytes`.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            data = file.read(max_bytes + 1)
    except (OSError, EOFError) as error:
        raise ForeignZooError(f"{path} cannot be unpacked: {error}") from error
    if len(data) > max_bytes:
        raise ForeignZooError(f"{path} unpacks to more than {max_bytes} bytes.")
    return data


def read_csv(path: Path) -> dict[str, list[str]]:
    """A CSV file with a header as name -> cells, all text.

    A column that occurs twice with the same cells is kept once; a repeated header line, as files
    have that were put together with `cat`, is left out.

    Raises:
        ForeignZooError: a name occurs twice for different cells, a row has too few or too many
            cells, or there is no header; names the line.
    """
    text = io.StringIO(_text(path), newline="")
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(text), 1) if row]
    except csv.Error as error:
        raise ForeignZooError(f"{path} is no CSV file: {error}") from error
    if not rows:
        raise ForeignZooError(f"{path} is empty.")
    header = [name.strip() for name in rows[0][1]]
    body = [(number, row) for number, row in rows[1:] if [c.strip() for c in row] != header]
    for number, row in body:
        if len(row) != len(header):
            raise ForeignZooError(
                f"{path}, line {number}: {len(row)} cells under {len(header)} names."
            )
    columns: dict[str, list[str]] = {}
    cells = list(zip(*(row for _, row in body))) or [()] * len(header)
    for name, column in zip(header, cells):
        if columns.setdefault(name, list(column)) != list(column):
            raise ForeignZooError(
                f"{path} has two columns {name!r} with different cells; rename one of them."
            )
    return columns


def read_json(path: Path) -> Any:
    """A JSON file; NaN and Infinity, as Python writes them, are read."""
    try:
        return json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ForeignZooError(f"{path} is no JSON file: {error}") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """A file with one JSON object a line; a last line that was cut off is left out."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    out = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == len(lines) and number > 1:
                break
            raise ForeignZooError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise ForeignZooError(f"{path}, line {number} is no JSON object.")
        out.append(value)
    return out


def cells_as_values(cells: Sequence[str]) -> list[Any]:
    """The cells of a CSV column as numbers or booleans if all of them are; empty ones are None.

    Example:
        >>> cells_as_values(["1", "2.5", ""]), cells_as_values(["True", "False"])
        ([1, 2.5, None], [True, False])
    """
    values = [_value(cell.strip()) for cell in cells]
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float} or kinds == {bool}:
        return values
    return [cell.strip() for cell in cells]


def columns_of(
    table: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Columns of a population from lists of values, and the labels of those that are words.

    Booleans stay booleans; integers become int32 (int64 if they must), numbers float32, with NaN
    for what is missing; words become codes, in alphabetical order. Lists, dictionaries and columns
    that are missing throughout are left out.

    Example:
        >>> columns, labels = columns_of({"lr": [0.1, None], "act": ["tanh", "relu"]})
        >>> columns["lr"].tolist()[1], columns["act"].tolist(), labels
        (nan, [1, 0], {'act': ('relu', 'tanh')})
    """
    columns, labels = {}, {}
    for name, values in table.items():
        if isinstance(values, np.ndarray):
            columns[name] = values
            continue
        known = [value for value in values if value is not None]
        if any(isinstance(value, (list, tuple, dict)) for value in known) or not known:
            continue
        if any(isinstance(value, str) for value in known):
            words = ["" if value is None else str(value) for value in values]
            labels[name] = tuple(sorted(set(words)))
            code = {word: i for i, word in enumerate(labels[name])}
            columns[name] = np.array([code[word] for word in words], np.int32)
        elif all(isinstance(value, (bool, np.bool_)) for value in values):
            columns[name] = np.array(values, bool)
        elif all(isinstance(value, (int, np.integer)) for value in values):
            small = all(abs(int(value)) < 2**31 for value in values)
            columns[name] = np.array(values, np.int32 if small else np.int64)
        else:
            values = [math.nan if value is None else float(value) for value in values]
            columns[name] = np.array(values, np.float32)
    return columns, labels


def table_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as columns; None where a row lacks a name."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _text(path: Path) -> str:
    data = read_bytes(path)
    if len(data) > MAX_TABLE_BYTES:
        raise ForeignZooError(f"{path} has more than {MAX_TABLE_BYTES} bytes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForeignZooError(f"{path} is no text: {error}") from error


def _value(cell: str) -> Any:
    if cell == "":
        return None
    if cell in ("True", "False", "true", "false"):
        return cell.lower() == "true"
    if len(cell) <= 400:
        for kind in (int, float):
            try:
                return kind(cell) if "_" not in cell else cell
            except ValueError:
                pass
    return cell
