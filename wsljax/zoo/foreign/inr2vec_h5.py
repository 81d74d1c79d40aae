"""The INRs of inr2vec (De Luigi et al. 2023): one HDF5 file a shape."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsljax._compat import require
from wsljax.zoo.foreign.folders import listed, matching
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.sirens import SPLITS, chosen, siren_population
from wsljax.zoo.population import Population

FILE = r"(\d+)\.h5"
WIDTHS = (3, 512, 512, 512, 512, 1)


def _matches(path: Path) -> bool:
    return any(next(matching(listed(path / part, "*.h5"), FILE), None) for part in SPLITS)


@foreign_format("inr2vec_h5", _matches)
def read_inr2vec_h5(
    path: str | os.PathLike, split: str | None = None, widths: Sequence[int] = WIDTHS
) -> Population:
    """INRs of shapes: {train,val,test}/<i>.h5 with params (a flat vector) and class_id.

    Source: De Luigi et al., "Deep Learning on Implicit Neural Representations of Shapes", 2023.
    Frequency 30; outputs are logits of occupancies, or of distances scaled to [0, 1]. Weights
    before biases, layer by layer, in torch's order. All networks started from one initialisation.

    Args:
        path: the folder of parts.
        split: read only "train", "val" or "test".
        widths: of the networks; their number of weights is checked.

    Returns:
        SIRENs with columns `label` (class), `index`, `split` and `run`. Point clouds are not read.

    Raises:
        ImportError: h5py is not installed; names the extra.
        ForeignZooError: a file without weights, or with another number of them.
    """
    path, parts = Path(path), chosen(split)
    require("h5py", extra="formats")
    import h5py  # pyright: ignore[reportMissingImports]

    shapes = [shape for n, m in zip(widths, widths[1:]) for shape in ((m, n), (m,))]
    sizes = [int(np.prod(shape)) for shape in shapes]
    networks, names, rows = [], [], []
    for part in parts:
        for file, found in matching(listed(path / part, "*.h5"), FILE):
            try:
                with h5py.File(file, "r") as data:
                    vector, label = np.asarray(data["params"]), int(np.asarray(data["class_id"]))
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise ForeignZooError(f"{file} has no params and class_id: {error}") from error
            if vector.shape != (sum(sizes),) or vector.dtype.kind != "f":
                raise ForeignZooError(
                    f"{file} has params {vector.dtype}{vector.shape}; widths {tuple(widths)} have "
                    f"{sum(sizes)} weights. Give the right `widths`."
                )
            pieces = np.split(vector, np.cumsum(sizes)[:-1])
            networks.append(
                {
                    f"dense_{i}": {
                        "kernel": pieces[2 * i].reshape(shapes[2 * i]).T,
                        "bias": pieces[2 * i + 1],
                    }
                    for i in range(len(widths) - 1)
                }
            )
            names.append(str(file))
            rows.append((label, int(found[1]), SPLITS.index(part)))
    columns = np.array(rows, np.int32).reshape(-1, 3).T
    table = {name: column for name, column in zip(("label", "index", "split"), columns)}
    return siren_population(networks, names, table, offset=0.0, labels={"split": SPLITS})
