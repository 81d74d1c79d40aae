"""What the networks of a zoo learn: data for training, data for measuring, and what guessing gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments._zoo import data as data
from wsljax import zoo


class Task(NamedTuple):
    """A task, or a family of them of which each network has its own.

    Attributes:
        source: where the data come from.
        shared: what all networks train on, for `zoo.train`; None if all data are a network's own.
        own: None, or `(column, arrays)` as in `zoo.train`: data of each task of the family.
        test: `(inputs, targets)` that networks are measured on. Targets of a family are
            `(tasks, n, ...)`; a class of -1 is no part of a task.
        train: likewise, of the training data; None where both are the same.
        columns: of each task of the family, what is known of it, `(tasks, ...)`.
        labels: words behind columns of codes.
        binary: whether targets say inside or outside: intersection over union is recorded, too.
        span: from the smallest to the largest value that a signal may have.
    """

    source: str
    shared: Any
    own: tuple[str, Any] | None
    test: tuple[np.ndarray, np.ndarray]
    train: tuple[np.ndarray, np.ndarray] | None = None
    columns: Mapping[str, np.ndarray] = {}
    labels: Mapping[str, tuple[str, ...]] = {}
    binary: bool = False
    span: float = 1.0

    @property
    def samples(self) -> int:
        """What one pass over the data is."""
        if self.shared is not None:
            return len(self.shared[0] if isinstance(self.shared, tuple) else self.shared)
        return self.own[1][0].shape[1]

    @property
    def count(self) -> int:
        """Tasks in the family."""
        own = self.own[1]
        return len(own[0] if isinstance(own, tuple) else own)

    def evaluation(self, part: str, metrics: tuple[str, ...], most: int | None = None) -> Any:
        """What is measured on a part, "test" or "train", as a `zoo.Evaluation`."""
        x, y = getattr(self, part)
        prefix = "" if self.train is None else f"{part}_"
        axis = 0 if self.own is None else 1
        if most is not None and len(x) > most:
            x, y = x[:most], y[:most] if axis == 0 else y[:, :most]
        own = None if self.own is None else self.own[0]
        columns = {prefix + metric: metric for metric in metrics}
        return zoo.Evaluation(x, y, columns, own_targets=own)

    def loss(self, function: zoo.Function, metric: str) -> Any:
        """For `zoo.train`: a name where it may be one."""
        if self.shared is not None:
            return metric
        loss = zoo.supervised(function, metric)
        return lambda params, row, batch, *, key: loss(params, row, batch[1], key=key)

    def chance(self, column: str) -> float:
        """A metric, on the test part, of the best answer that does not look at the input."""
        metric = column.removeprefix("test_").removeprefix("train_")
        if metric == "psnr":
            return 10 * np.log10(self.span**2 / max(self.chance("mse"), 1e-12))
        targets = self.test[1]
        families = targets[None] if self.own is None else targets
        return float(np.mean([_chance(metric, y) for y in families]))


def of_samples(found: data.Samples) -> Task:
    """Samples with classes, shared by all networks."""
    tx, ty, vx, vy, source = found
    return Task(source, (tx, ty), None, (vx, vy), (tx, ty))


def tetris(folder, *, models, seed, **options) -> Task:
    """Tetromino shapes, 4 classes."""
    return of_samples(data.tetris(seed=seed, **options))


def table(folder, *, models, seed, name: str) -> Task:
    """A table of scikit-learn: "iris" or "breast_cancer"."""
    return of_samples({"iris": data.iris, "breast_cancer": data.breast_cancer}[name]())


def images(
    folder,
    *,
    models,
    seed,
    rows: bool = False,
    flat: bool = False,
    mirrored: bool = False,
    **options,
) -> Task:
    """Images with classes.

    Args:
        rows, flat: as sequences of their rows, or as vectors.
        mirrored: left and right swapped.
        **options: of `data.images`.
    """
    found = data.images(folder=folder, **options)
    for name in ("train_x", "test_x"):
        x = getattr(found, name)
        x = x[:, :, ::-1] if mirrored else x
        x = x.reshape(len(x), x.shape[1], -1) if rows else x
        x = x.reshape(len(x), -1) if flat else x
        found = found._replace(**{name: np.ascontiguousarray(x)})
    return of_samples(found)


def one_class(folder, *, models, seed, **options) -> Task:
    """Images; each task of the family is to tell one class, 1, from all others, 0.

    Of the others as many count as there are of the class, drawn at random; the rest is -1.
    """
    tx, ty, vx, vy, source = data.images(folder=folder, **options)
    classes, rng, parts = np.arange(ty.max() + 1), np.random.default_rng(seed), []
    for y in (ty, vy):
        targets = np.full((len(classes), len(y)), -1, np.int32)
        for label in classes:
            mine, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
            targets[label, mine] = 1
            targets[label, rng.permutation(others)[: len(mine)]] = 0
        parts.append(targets)
    train, test = parts
    columns = {"positive_class": classes.astype(np.int32)}
    return Task(source, tx, ("task", train), (vx, test), (tx, train), columns)


def class_subsets(
    folder, *, models, seed, chosen: int = 3, tasks: int, flat: bool = False, **options
) -> Task:
    """Images; each task of the family is to classify those of some classes only.

    Images of other classes have the class -1: they count neither in losses nor in metrics.
    """
    tx, ty, vx, vy, source = data.images(folder=folder, **options)
    tx, vx = (x.reshape(len(x), -1) if flat else x for x in (tx, vx))
    rng, classes = np.random.default_rng(seed), ty.max() + 1
    tasks = min(tasks, models)
    sets = np.stack([np.isin(np.arange(classes), rng.choice(classes, chosen, False))
                     for _ in range(tasks)])  # fmt: skip
    train, test = (np.where(sets[:, y], y, -1).astype(np.int32) for y in (ty, vy))
    columns = {"classes": sets.astype(np.int32)}
    return Task(source, tx, ("task", train), (vx, test), (tx, train), columns)


def styles(
    folder, *, models, seed, tasks: int, train: int = 200, test: int = 50, flat: bool = False,
    **options,
) -> Task:  # fmt: skip
    """Images as somebody else would have drawn them: each task has a turn, a slant, a width, a height.

    Turns are up to 60 degrees, slants up to 0.5, both scales between 0.7 and 1.2; half of the styles
    are bright on dark, the others dark on bright. A task has its own images to train on.
    """
    found = data.images(folder=folder, **options)
    rng, tasks = np.random.default_rng(seed), min(tasks, models)
    angle, slant = rng.uniform(-np.pi / 3, np.pi / 3, tasks), rng.uniform(-0.5, 0.5, tasks)
    scale, inverted = rng.uniform(0.7, 1.2, (tasks, 2)), rng.integers(0, 2, tasks)
    arrays = []
    for part, count in (("train", train), ("test", test)):
        x, y = getattr(found, f"{part}_x"), getattr(found, f"{part}_y")
        chosen = np.stack([rng.permutation(len(x))[:count] for _ in range(tasks)])
        drawn = [affine(x[chosen[k]], angle[k], slant[k], scale[k]) for k in range(tasks)]
        drawn = [1 - x if inverted[k] else x for k, x in enumerate(drawn)]
        drawn = np.stack(drawn).astype(np.float32)
        arrays.append((drawn.reshape(tasks, count, -1) if flat else drawn, y[chosen]))
    columns = {
        "angle": angle.astype(np.float32), "slant": slant.astype(np.float32),
        "scale": scale.astype(np.float32), "inverted": inverted.astype(np.int32),
    }  # fmt: skip
    test_part = pooled(*arrays[1])
    shown = pooled(arrays[0][0][:, :test], arrays[0][1][:, :test])
    return Task(found.source, None, ("task", arrays[0]), test_part, shown, columns)


def affine(x: np.ndarray, angle: float, slant: float, scale: np.ndarray) -> np.ndarray:
    """Images `(n, h, w, c)` turned, slanted and scaled about their middle, bilinearly; 0 outside."""
    height, width = x.shape[1:3]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(turn @ np.array([[1, 0], [slant, 1]]) @ np.diag(scale))
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    middle = np.array([height - 1, width - 1]) / 2
    places = (grid - middle) @ back.T + middle
    out = np.zeros_like(x)
    low = np.floor(places).astype(int)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + step
        weight = np.prod(1 - np.abs(places - at), axis=-1)
        inside = np.all((at >= 0) & (at < (height, width)), axis=-1)
        at = np.where(inside[..., None], at, 0)
        out += (weight * inside)[..., None] * x[:, at[..., 0], at[..., 1]]
    return out


def pooled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `(tasks, n, ...)` in one batch, and targets that are -1 for what is of other tasks.

    >>> x, y = pooled(np.zeros((2, 1, 3)), np.array([[5], [7]]))
    >>> x.shape, y.tolist()
    ((2, 3), [[5, -1], [-1, 7]])
    """
    tasks, each = y.shape[:2]
    targets = np.full((tasks, tasks, *y.shape[1:]), -1, np.int32)
    targets[np.arange(tasks), np.arange(tasks)] = y
    return x.reshape(-1, *x.shape[2:]), targets.reshape(tasks, tasks * each, *y.shape[2:])


def signals(
    folder, *, models, seed, count: int, low: float = 0.0, order: str = "xy", test: int = 0,
    **options,
) -> Task:  # fmt: skip
    """Images as functions of the coordinates of their pixels; each network has its own image.

    Args:
        count: images, at most.
        low: what black is; white is 1.
        order: of the coordinates, as in `zoo.grid`.
        test: how many of them are of the test part of the data; they come last, and a column
            `held_out` tells them.

    Raises:
        ValueError: `test` leaves no image of the training part.
    """
    if test >= min(count, models):
        raise ValueError(f"test is {test} of {min(count, models)} images; it must be less.")
    found = data.images(folder=folder, test=test, **options)
    first = slice(min(count, models) - len(found.test_x))
    x, y = (np.concatenate([a[first], b]) for a, b in ((found.train_x, found.test_x),
                                                       (found.train_y, found.test_y)))  # fmt: skip
    columns = {"label": y}
    if test:
        columns["held_out"] = (np.arange(len(x)) >= len(x) - len(found.test_x)).astype(np.int32)
    height, width, channels = x.shape[1:]
    targets = (low + (1 - low) * x).reshape(len(x), height * width, channels).astype(np.float32)
    points = zoo.grid(height, width, order=order)
    return Task(
        found.source, points, ("image", targets), (points, targets), columns=columns,
        span=1 - low,
    )  # fmt: skip


def _chance(metric: str, y: np.ndarray) -> float:
    if metric in ("accuracy", "cross_entropy"):
        share = np.bincount(y[y >= 0]) / np.sum(y >= 0)
        return share.max() if metric == "accuracy" else -np.sum(share * np.log(share + 1e-12))
    middle = np.clip(np.mean(y, axis=0), 1e-7, 1 - 1e-7) if metric[:6] == "binary" else y.mean(0)
    if metric == "binary_cross_entropy":
        return float(np.mean(-middle * np.log(middle) - (1 - middle) * np.log(1 - middle)))
    if metric == "iou":
        return float(np.mean(y))  # of "inside" everywhere
    return float(np.mean((y - middle) ** 2))


TASKS: dict[str, Callable[..., Task]] = {
    "tetris": tetris, "table": table, "images": images, "one_class": one_class,
    "class_subsets": class_subsets, "styles": styles, "signals": signals,
}  # fmt: skip
