"""The index of a zoo on disk: what is in it, and which files hold it.

`index.json` is replaced as a whole after each shard, so whoever reads it sees the shards that were
finished by then. It carries its own checksum, and nothing in it is believed without a look.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsljax.zoo.population import ROLES
from wsljax.zoo.store.files import INDEX, inside, shards_in, write_atomically
from wsljax.zoo.store.structure import Structure
from wsljax.zoo.store.tensor_file import CODES, Tensor, Written

FORMAT, VERSION = "wsljax.zoo", 1


@dataclass(frozen=True)
class Shard:
    """A file of networks: its name, how many networks, and what was written."""

    file: str
    models: int
    written: Written


@dataclass(frozen=True)
class Column:
    """A column: its dtype, the shape of one network's entry, and what is known of its meaning."""

    dtype: str
    shape: tuple[int, ...]
    role: str | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Index:
    """What is in a zoo.

    Attributes:
        generation: eight digits in the names of all its files.
        structure: of the parameters; None until a network is written.
        columns: name -> `Column`.
        spec: the text of `Spec.to_json`, or None.
        function: of `Function.to_json`, or None.
        evaluation: of `save_evaluation`, or None.
        shards: in order.
        complete: whether the last writer was closed, not killed.
    """

    generation: str
    structure: Structure | None = None
    columns: tuple[tuple[str, Column], ...] = ()
    spec: Any = None
    function: Any = None
    evaluation: Any = None
    shards: tuple[Shard, ...] = ()
    complete: bool = False

    def __len__(self) -> int:
        return sum(shard.models for shard in self.shards)

    @property
    def files(self) -> set[str]:
        """The names of all files that belong to it, but the index."""
        names = {shard.file for shard in self.shards}
        return names | ({self.evaluation["file"]} if self.evaluation else set())


def tensor_names(index: Index) -> tuple[list[str], dict[str, str]]:
    """How parameters (in order) and columns are called in a shard."""
    leaves = index.structure.arrays if index.structure is not None else ()
    params = [f"params/{leaf.path}" if leaf.path else "params" for leaf in leaves]
    return params, {name: f"columns/{name}" for name, _ in index.columns}


def expect_tensors(index: Index, models: int, header: Mapping[str, Tensor]) -> None:
    """Check that a shard holds what the index says.

    Raises:
        ValueError: names a tensor that is missing, or is another one.
    """
    params, columns = tensor_names(index)
    leaves = index.structure.arrays if index.structure is not None else ()
    expected = {n: (leaf.dtype, (models, *leaf.shape)) for n, leaf in zip(params, leaves)}
    expected |= {columns[n]: (c.dtype, (models, *c.shape)) for n, c in index.columns}
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in header.items()}
    for name in {**expected, **found}:
        if expected.get(name) != found.get(name):
            raise ValueError(f"{name!r} is {found.get(name)}, the index has {expected.get(name)}")


def write_index(folder: Path, index: Index) -> None:
    """Replace the index of a folder."""
    data = {
        "format": FORMAT,
        "version": VERSION,
        "generation": index.generation,
        "complete": index.complete,
        "models": len(index),
        "structure": None if index.structure is None else index.structure.to_json(),
        "columns": {name: _column_json(column) for name, column in index.columns},
        "function": index.function,
        "evaluation": index.evaluation,
        "spec": index.spec,
        "shards": [
            {"file": s.file, "models": s.models, **s.written._asdict()} for s in index.shards
        ],
    }
    text = json.dumps({**data, "crc32": _checksum(data)}, indent=1, allow_nan=False)
    write_atomically(folder / INDEX, lambda file: file.write(text.encode()))


def read_index(folder: Path) -> Index:
    """The index of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of a newer version, or damaged, or nothing that was written here.
    """
    path = folder / INDEX
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        lost = " Its writer was killed before the first shard was finished." * bool(
            shards_in(folder)
        )
        raise FileNotFoundError(f"{folder} holds no zoo: there is no {INDEX}.{lost}") from None
    try:
        data = json.loads(text)
        is_ours = isinstance(data, dict) and data.get("format") == FORMAT
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path} is damaged: {e}. Take it from a copy of the folder.") from None
    if not is_ours:
        raise ValueError(f"{path} is not the index of a zoo written by this library.")
    if type(data.get("version")) is not int or data["version"] > VERSION:
        raise ValueError(
            f"{path} has format version {data.get('version')}; this wsljax reads up to {VERSION}. "
            "Upgrade wsljax."
        )
    if _checksum({k: v for k, v in data.items() if k != "crc32"}) != data.get("crc32"):
        raise ValueError(
            f"{path} is damaged: it fails its checksum. Take it from a copy of the folder."
        )
    try:
        return _from_json(folder, data)
    except (KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(f"{path} is not an index that was written here: {e!r}.") from e
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def written_from(data: Mapping[str, Any]) -> Written:
    """The sizes and the checksum of a file, from JSON."""
    numbers = [data[name] for name in Written._fields]
    if any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError(f"the sizes of {data.get('file')!r} are {numbers}")
    return Written(*numbers)


def _from_json(folder: Path, data: Mapping[str, Any]) -> Index:
    shards = []
    for entry in data["shards"]:
        inside(folder, entry["file"])
        if type(entry["models"]) is not int or not 0 < entry["models"] < 2**48:
            raise ValueError(f"{entry['file']!r} has {entry['models']!r} networks")
        shards.append(Shard(entry["file"], entry["models"], written_from(entry)))
    if len({shard.file for shard in shards}) < len(shards):
        raise ValueError("it lists one shard twice")
    if data["evaluation"] is not None:
        inside(folder, data["evaluation"]["file"])
    structure = data["structure"]
    index = Index(
        generation=data["generation"],
        structure=None if structure is None else Structure.from_json(structure),
        columns=tuple((name, _column(name, entry)) for name, entry in data["columns"].items()),
        spec=data["spec"],
        function=data["function"],
        evaluation=data["evaluation"],
        shards=tuple(shards),
        complete=bool(data["complete"]),
    )
    if len(index) != data["models"] or (shards and structure is None):
        raise ValueError(f"it counts {data['models']} networks, its shards {len(index)}")
    return index


def _column_json(column: Column) -> dict[str, Any]:
    found = {"dtype": column.dtype, "shape": list(column.shape), "role": column.role}
    return found | {"labels": None if column.labels is None else list(column.labels)}


def _column(name: str, data: Mapping[str, Any]) -> Column:
    shape, labels = tuple(data["shape"]), data["labels"]
    if data["dtype"] not in CODES or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"column {name!r} is {data['dtype']} {shape}")
    if data["role"] is not None and data["role"] not in ROLES:
        raise ValueError(f"column {name!r} has the unknown role {data['role']!r}")
    return Column(data["dtype"], shape, data["role"], None if labels is None else tuple(labels))


def _checksum(data: Mapping[str, Any]) -> int:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return zlib.crc32(text.encode())
