"""Networks and data of `experiments/learned_optimisers.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._zoo.data import data_folder, images
from wsljax import symmetry, zoo
from wsljax.applications.meta_training import Task


class Problem(NamedTuple):
    """A task, the annotation of its weights, and how well weights do.

    Attributes:
        task: batches are drawn from the training images.
        spec: permutations of hidden units.
        measure: `measure(params)`: the mean loss of the training images, and the loss and accuracy of
            the test images, three numbers.
        weights: how many there are.
    """

    task: Task
    spec: symmetry.Spec
    measure: Callable[[Any], dict[str, jax.Array]]
    weights: int


class Images(NamedTuple):
    """Images `(n, side, side)`, standardised, and classes; and where they are from."""

    train_x: jax.Array
    train_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array
    source: str


def load(dataset: str, folder: str | Path | None, *, side: int, train: int, test: int) -> Images:
    """The digits of scikit-learn, or with a folder MNIST-like images, resized to `side` pixels."""
    found = images(dataset, data_folder(folder), size=side, train=train, test=test)
    mean, deviation = found.train_x.mean(), found.train_x.std()
    x, y = ((part[..., 0] - mean) / deviation for part in (found.train_x, found.test_x))
    return Images(
        jnp.asarray(x), jnp.asarray(found.train_y), jnp.asarray(y), jnp.asarray(found.test_y),
        found.source,
    )  # fmt: skip


def mlp(side: int, width: int) -> zoo.Function:
    """One hidden layer on the pixels."""
    return zoo.Function("mlp", {"widths": (side * side, width, 10)})


def cnn(side: int, width: int) -> zoo.Function:
    """Two convolutions of stride 2, the mean over positions, and a dense layer."""
    options = {"stride": 2, "padding": "SAME", "dense_widths": (10,)}
    shape = {"input_shape": (side, side, 1), "channels": (width // 2, width)}
    return zoo.Function("cnn", {**shape, **options})


def rnn(side: int, width: int) -> zoo.Function:
    """A recurrent network with tanh that reads the image row by row."""
    return zoo.Function(
        "recurrent", {"cell": "rnn", "features": side, "hidden": width, "layers": 1}
    )


NETWORKS = {"mlp": mlp, "cnn": cnn, "rnn": rnn}


def problem(name: str, data: Images, *, width: int, batch: int) -> Problem:
    """A network of a width on images.

    Raises:
        ValueError: an unknown network.
    """
    if name not in NETWORKS:
        raise ValueError(f"network {name!r}: there are {', '.join(NETWORKS)}.")
    side = data.train_x.shape[1]
    function = NETWORKS[name](side, width)
    shape = tuple(side if n is None else n for n in function.input_shape)
    train_x, test_x = (x.reshape(len(x), *shape) for x in (data.train_x, data.test_x))

    def mean_loss(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = function.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        return mean_loss(params, *batch)[0]

    def batches(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.randint(jax.random.fold_in(key, step), (batch,), 0, len(train_x))
        return train_x[chosen], data.train_y[chosen]

    def measure(params: Any) -> dict[str, jax.Array]:
        train, _ = mean_loss(params, train_x, data.train_y)
        test, logits = mean_loss(params, test_x, data.test_y)
        right = jnp.mean(logits.argmax(-1) == data.test_y)
        return {"train_loss": train, "test_loss": test, "test_accuracy": right}

    init = lambda key: function.init(key=key)  # noqa: E731
    params = jax.eval_shape(init, jax.random.key(0))
    spec = symmetry.infer(function.apply, params, train_x[:2], kinds=("permutation",))
    weights = sum(int(np.prod(p.shape)) for p in jax.tree.leaves(params))
    return Problem(Task(init, loss, batches), spec, measure, weights)
