"""Editing drawings: what an image is to become, and networks that change weights so that it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from configs._metanetworks import Entry
from experiments._metanetworks.learn import Draw, Goal
from experiments._metanetworks.reading import Held, Reading, reading_of
from wsljax import representation, zoo
from wsljax._compat import require
from wsljax.symmetry import Spec

STEP = 0.03
"""What an editor changes weights by at first, as a share of their typical size."""


def dilate(images: np.ndarray) -> np.ndarray:
    """The largest value in the 3 x 3 pixels around each; images are `(n, height, width, channels)`.

    >>> image = np.zeros((1, 4, 4, 1)); image[0, 1, 1] = 1
    >>> dilate(image)[0, ..., 0].sum()
    np.float64(9.0)
    """
    return _windows(images).max(axis=(-2, -1))


def erode(images: np.ndarray) -> np.ndarray:
    """The smallest value in the 3 x 3 pixels around each."""
    return _windows(images).min(axis=(-2, -1))


def gradient(images: np.ndarray) -> np.ndarray:
    """Dilated minus eroded: the outline."""
    return dilate(images) - erode(images)


EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dilate": dilate, "erode": erode, "gradient": gradient,
}  # fmt: skip


def _windows(images: np.ndarray) -> np.ndarray:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))


def drawing_goal() -> Goal:
    """Pixels by their squared error; score `mse`."""

    def loss(answer, target):
        return jnp.mean(jnp.square(answer - target))

    def score(found, targets):
        return {"mse": float(np.mean(np.square(found - np.asarray(targets))))}

    return Goal(0, loss, score, ("mse", "min"))


class Redraw(eqx.Module):
    """The weights of a network to what it draws once they are edited, `(pixels,)`.

    Attributes:
        editor: weights, or what is read of the network, to changes of it.
        steps: of each array of the weights, what changes are multiplied by.
        reading: what is read beside weights, or None.
        points: where it draws.
    """

    editor: representation.Editor
    steps: Any
    reading: Reading | None
    function: zoo.Function = eqx.field(static=True)
    points: Held = eqx.field(static=True)

    def edited(self, params: Any) -> Any:
        """The edited weights."""
        if self.reading is None:
            change = self.editor(params)
        else:
            change = self.editor(self.reading(params))["weights"]
        return jax.tree.map(lambda x, size, d: x + size * d, params, self.steps, change)

    def __call__(self, params: Any) -> jax.Array:
        return draw(self.function, self.edited(params), jnp.asarray(self.points.value))


def draw(function: zoo.Function, params: Any, points: Any) -> jax.Array:
    """What one network draws, flat."""
    return function.apply(params, points).ravel()


def redrawer(function: zoo.Function, points: Any, start: Any = None) -> Draw:
    """For `learn`: editors of networks that draw.

    Args:
        function, points: of the drawings.
        start: where all networks were fitted from, or None.
    """
    held = Held(points)

    def compute(params, x):
        return function.apply(params, x[None])[0]

    def make(entry: Entry, spec: Spec, params: Any, out: int, *, key: jax.Array) -> Redraw:
        key_reading, key_editor = jax.random.split(key)
        reading, full, scales = reading_of(
            entry, spec, params, compute, points, start, key=key_reading
        )
        editor = representation.Editor(
            full, entry.channels, entry.layers, key=key_editor, method=entry.method,
            scales=scales, **entry.options,
        )  # fmt: skip
        steps = jax.tree.map(lambda x: jnp.full((), STEP, jnp.result_type(x)), params)
        return Redraw(editor, steps, reading, function, held)

    return make


def picture(file: Path, columns: dict[str, np.ndarray]) -> None:
    """Save images side by side as PNG: a column for each name, a row for each image.

    Args:
        file: to write.
        columns: names, and images `(n, height, width)` with black 0 and white 1.
    """
    require("matplotlib", extra="experiments").use("Agg")
    plt = require("matplotlib.pyplot", extra="experiments")
    count = len(next(iter(columns.values())))
    size = (1.2 * len(columns), 1.15 * count + 0.4)
    figure, axes = plt.subplots(count, len(columns), figsize=size, squeeze=False)
    for at, (name, images) in enumerate(columns.items()):
        axes[0, at].set_title(name, fontsize=7)
        for row, image in zip(axes[:, at], images, strict=True):
            row.imshow(image, cmap="gray", vmin=0, vmax=1)
            row.axis("off")
    figure.tight_layout(pad=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    plt.close(figure)
