"""Model-J (Horwitz et al. 2025): fine-tuned classifiers in the layout of the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from wsljax.zoo.foreign.folders import inside, matching, subfolders
from wsljax.zoo.foreign.registry import ForeignZooError, foreign_format
from wsljax.zoo.foreign.safetensors_file import literal, read_arrays
from wsljax.zoo.foreign.stacking import population_of, stack
from wsljax.zoo.population import Population

FOLDER = r"models--.+"


def _matches(path: Path) -> bool:
    return path.is_dir() and any(
        (folder / "refs" / "main").is_file() for folder, _ in matching(subfolders(path), FOLDER)
    )


@foreign_format("model_j", _matches)
def read_model_j(path: str | os.PathLike, layers: Collection[str] | None = None) -> Population:
    """Model-J: models--*/snapshots/<refs/main>/model.safetensors with classes in the metadata.

    Source: Horwitz et al., "Learning on Model Weights using Tree Experts" (ProbeX), 2025. The
    metadata string `dataset_chosen_targets` is parsed as a literal; the published loader evaluates
    it. Folders without a reference or a model (unfinished downloads) are left out.

    Args:
        path: the folder of `models--*` folders.
        layers: names of arrays to read; None: all. ProbeX reads one.

    Returns:
        Arrays under the names of the files, `run`, and `targets`, bool `(models, classes)`: the
        classes a model was trained on, in the order of `dict(population.labels)["targets"]`. No
        function: the architecture is the hub's (`interop` runs those).

    Raises:
        ForeignZooError: no models, a reference out of its folder, or metadata that is no literal.
    """
    path = Path(path)
    if isinstance(layers, str):
        layers = (layers,)
    networks, names, targets = [], [], []
    for folder, _ in matching(subfolders(path), FOLDER):
        reference = folder / "refs" / "main"
        if not reference.is_file():
            continue
        snapshot = inside(folder / "snapshots", reference.read_text().strip(), str(reference))
        file = snapshot / "model.safetensors"
        if not file.is_file():
            continue
        arrays, metadata = read_arrays(file, layers)
        chosen = metadata.get("dataset_chosen_targets")
        words = [] if chosen is None else literal(chosen, str(file))
        if not isinstance(words, (list, tuple, set)):
            raise ForeignZooError(f"{file}: 'dataset_chosen_targets' is a {type(words).__name__}.")
        networks.append(arrays)
        names.append(str(file))
        targets.append({str(word) for word in words})
    classes = sorted(set().union(*targets)) if targets else []
    table = {"run": np.arange(len(networks), dtype=np.int32)}
    labels = {}
    if classes:
        table["targets"] = np.array([[word in own for word in classes] for own in targets])
        labels["targets"] = classes
    return population_of(stack(networks, names), table, roles={"run": "lineage"}, labels=labels)
