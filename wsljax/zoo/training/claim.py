"""Which run a folder of progress belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def claim_folder(folder: Path, file: str, run: Mapping[str, Any]) -> None:
    """Write what run this folder belongs to, or refuse if it belongs to another.

    Args:
        folder: made if it is not there.
        file: the JSON file in it that says whose progress it holds.
        run: what identifies the run, JSON values.

    Raises:
        ValueError: the folder holds another run; names what differs.
    """
    path = folder / file
    if path.exists():
        found = json.loads(path.read_text())
        other = sorted(name for name in {*run, *found} if run.get(name) != found.get(name))
        if other:
            raise ValueError(
                f"{folder} holds the progress of another run ({', '.join(other)}: not the same). "
                "Give another `folder`, or remove this one to start again."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(run, indent=2))
    temporary.replace(path)


def digest(tree: Any) -> str:
    """A short hash of the shapes, dtypes and contents of all arrays of a tree.

    >>> digest({"a": np.zeros(3)}) == digest({"a": np.zeros(3)}) != digest({"a": np.ones(3)})
    True
    """
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]
