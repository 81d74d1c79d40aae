"""What published networks are asked, and how answers are scored: as those of our own rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._metanetworks.learn import Goal
from wsljax import train, zoo


class Drawing(NamedTuple):
    """What sine networks draw at some points.

    Attributes:
        function: of the networks, a "siren" with linear output.
        points: `(points, coordinates)`.
    """

    function: zoo.Function
    points: np.ndarray

    def told(self) -> dict[str, Any]:
        """The numbers by which it is drawn: frequencies of the hidden layers, and what is added."""
        settings = self.function.settings
        kind = self.function.architecture  # pyright: ignore[reportAttributeAccessIssue]
        if kind != "siren" or settings["output"] != "linear":
            raise ValueError(
                f"published code edits sine networks with linear output, not {kind!r} with output "
                f"{settings.get('output')!r}."
            )
        hidden = len(settings["widths"]) - 2
        first = settings["first_frequency"]
        speeds = [settings["frequency"]] * hidden
        if first is not None:
            speeds[:1] = [first]
        return {"frequencies": speeds, "offset": settings["offset"]}

    def check(
        self, params: Any, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]
    ) -> None:
        """Whether the chain draws what the function of the networks does.

        Raises:
            ValueError: it does not.
        """
        told, h = self.told(), self.points
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = h @ w + b[:, None]
            if i < len(told["frequencies"]):
                h = np.sin(told["frequencies"][i] * h)
        apart = np.max(np.abs(h + told["offset"] - self.drawn(params)))
        if not apart < 1e-3:
            raise ValueError(f"the networks are not those of {self.function}: {apart:.1e} apart.")

    def drawn(self, params: Any, together: int = 256) -> np.ndarray:
        """By stacked networks: `(networks, points, channels)`."""
        draw = jax.jit(jax.vmap(lambda p: self.function.apply(p, jnp.asarray(self.points))))
        count = len(jax.tree.leaves(params)[0])
        pieces = [
            draw(jax.tree.map(lambda x, at=at: x[at : at + together], params))
            for at in range(0, count, together)
        ]
        return np.concatenate([np.asarray(piece) for piece in pieces])


class Question(NamedTuple):
    """What is asked of networks.

    Attributes:
        kind: "classification", "regression" or "editing".
        out: numbers that an answer has.
        score: `score(answers, targets)` of the test networks. Answers are logits, numbers in [0, 1], or
            stacked networks.
        drawing: what edited networks draw; targets are then as many numbers a network, flat or
            `(networks, points, channels)`.
    """

    kind: str
    out: int
    score: Callable[[Any, np.ndarray], dict[str, float]]
    drawing: Drawing | None = None


def classification(goal: Goal) -> Question:
    """Classes, scored as in our rows."""
    return Question("classification", goal.out, goal.score)


def regression() -> Question:
    """An accuracy, scored as in our rows: `r2` and `tau`."""

    def score(found: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        guess, truth = jnp.asarray(found), jnp.asarray(targets)
        return {"r2": float(train.r2(guess, truth)), "tau": float(train.kendall_tau(guess, truth))}

    return Question("regression", 1, score)


def editing(function: zoo.Function, points: np.ndarray) -> Question:
    """Weights whose drawing is the target; scored by the mean squared error, `mse`."""
    drawing = Drawing(function, np.asarray(points, np.float32))

    def score(found: Any, targets: np.ndarray) -> dict[str, float]:
        drawn = drawing.drawn(found)
        return {"mse": float(np.mean((drawn - np.reshape(targets, drawn.shape)) ** 2))}

    return Question("editing", 1, score, drawing)


def odd_activations(networks: zoo.Population, column: str = "activation") -> np.ndarray:
    """Which networks have tanh and not ReLU, from a column of codes: `(networks,)` booleans.

    Raises:
        ValueError: the column is not there, or has other activations.
    """
    labels = dict(networks.labels).get(column)
    if column not in networks.columns or labels is None:
        raise ValueError(
            f"no column of activations {column!r}; there are {sorted(networks.columns)}."
        )
    words = np.asarray(labels)[np.asarray(networks.columns[column])]
    others = sorted(set(words.tolist()) - {"relu", "tanh"})
    if others:
        raise ValueError(f"activations {others}: published code knows relu and tanh.")
    return words == "tanh"
