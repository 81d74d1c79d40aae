"""Copies of trained networks that go on: sparse twins, and networks trained further on other data.

Sources: Honegger et al. 2023 (twins), Han et al. 2015 (magnitude pruning with fine-tuning under the
mask), Molchanov et al. 2017 (sparsity by variational dropout, equation 14 for its penalty).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.zoo._config import Descend
from experiments._zoo.hyper import draw_hyper
from wsljax import zoo

#: What a network's weights come from, as codes of the column `method`.
METHODS = ("trained", "magnitude", "variational", "finetuned")

SPEED = (
    20.0  # logarithms of variances are kept in these units, so that they move faster than weights
)
LIMIT = 3.0  # log of the dropout rate ratio above which a weight is set to zero (Molchanov 2017)


def descend(
    way: Descend, parents: zoo.Population, rows: np.ndarray, function: zoo.Function, metric: str,
    data: Any, *, key: jax.Array, steps: int, batch_size: int | None, start: int, seed: int,
    hyper: Sequence[str], chunk: int, skip: int, folder: Path, log: Any,
) -> Iterator[zoo.Population]:  # fmt: skip
    """Copies of some networks, trained further, a chunk at a time.

    Args:
        way: how.
        parents: the networks.
        rows: where they are in the zoo.
        function: what they compute.
        metric: the loss.
        data: `(x, y)`.
        key, steps, batch_size, chunk, skip, folder, log: of `zoo.train_chunks`.
        start: the seed, and the run, of the first copy.
        seed: of what is drawn.
        hyper: columns that are hyperparameters of the parents.

    Yields:
        `way.copies` of each network, in the order of the networks, with the columns of a trained zoo,
        `method` and `zeros`.

    Raises:
        ValueError: an unknown method, or something is drawn that the zoo has no column for.
    """
    if way.method not in WAYS:
        raise ValueError(f"method {way.method!r}: there are {', '.join(WAYS)}.")
    whose = np.repeat(np.arange(len(rows)), way.copies)
    drawn = draw_hyper(way.hyper, way.copies, seed=seed)
    drawn = {n: np.tile(column, len(rows)) for n, column in drawn.items() if n in way.hyper}
    columns = {name: np.asarray(parents.columns[name])[whose] for name in hyper}
    if set(drawn) - set(columns):
        unknown = sorted(set(drawn) - set(columns))
        raise ValueError(f"{unknown} of copies are no hyperparameters of the zoo; add them there.")
    words = dict(parents.labels)
    for name, codes in columns.items():
        if name in words:
            columns[name] = np.array(words[name])[codes]
    flat, unflatten = _flattened(parents.params)
    columns |= {**drawn, "seed": start + np.arange(len(whose)), "parent_weights": flat[whose]}

    make, loss, finish = WAYS[way.method]
    loss_of, finish = zoo.supervised(function, metric), jax.jit(jax.vmap(finish))
    for trained in zoo.train_chunks(
        lambda row, *, key: make(unflatten(row["parent_weights"]), row),
        lambda params, row, batch, *, key: loss(loss_of, params, row, batch, key),
        data, columns, key=key, steps=steps, batch_size=batch_size, chunk=chunk, skip=skip,
        labels={n: w for n, w in words.items() if n != "optimiser"}, folder=folder, log=log,
    ):  # fmt: skip
        params = jax.tree.map(np.asarray, finish(trained.params))
        run = np.asarray(trained.columns["run"])
        leaves = [leaf.reshape(len(run), -1) for leaf in jax.tree.leaves(params)]
        found = {n: trained.columns[n] for n in parents.columns if n in trained.columns} | {
            "run": (start + run).astype(np.int32),
            "parent": rows[whose[run]].astype(np.int32),
            "method": np.full(len(run), METHODS.index(way.method), np.int32),
            "zeros": (np.concatenate(leaves, axis=1) == 0).mean(axis=1).astype(np.float32),
        }
        yield zoo.Population(params, found, None, parents.labels, function, parents.roles)


def last_of_runs(run: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The rows of the last network of each run, in order.

    >>> last_of_runs(run=np.array([0, 0, 1, 1]), step=np.array([0, 9, 0, 7])).tolist()
    [1, 3]
    """
    order = np.lexsort((step, run))
    return np.sort(order[np.append(run[order][1:] != run[order][:-1], True)])


def magnitude_masks(weights: Any, share: jax.Array) -> Any:
    """Masks of int8 that leave out the given share of each kernel's entries, the smallest.

    Biases stay. One limit for all kernels would leave some layers empty, and networks that guess.

    >>> weights = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]]), "bias": jnp.zeros(2)}
    >>> magnitude_masks(weights, jnp.float32(0.5))["kernel"].tolist()
    [[0, 1], [1, 0]]
    """

    def mask(leaf):
        if leaf.ndim < 2:
            return jnp.ones(leaf.shape, jnp.int8)
        sizes = jnp.sort(jnp.abs(leaf).ravel())
        place = jnp.round(share * sizes.size).astype(jnp.int32)
        limit = jnp.where(place > 0, sizes[jnp.maximum(place - 1, 0)], -1.0)
        return (jnp.abs(leaf) > limit).astype(jnp.int8)

    return jax.tree.map(mask, weights)


def dropout_penalty(log_ratio: jax.Array) -> jax.Array:
    """The divergence from the log-uniform prior, of a weight with this log of sigma^2 / w^2."""
    rise = 0.63576 * jax.nn.sigmoid(1.8732 + 1.48695 * log_ratio)
    return 0.63576 - rise + 0.5 * jnp.log1p(jnp.exp(-log_ratio))


def _start_masked(weights: Any, row: Mapping[str, Any]) -> Any:
    masks = magnitude_masks(weights, row["sparsity"])
    return {"weights": _times(weights, masks), "masks": masks}


def _masked_loss(loss: Callable, params: Any, row: Any, batch: Any, key: jax.Array) -> jax.Array:
    return loss(_times(params["weights"], params["masks"]), row, batch, key=key)


def _start_noisy(weights: Any, row: Mapping[str, Any]) -> Any:
    def start(leaf):  # a tenth of the weight's size
        return (2 * jnp.log(jnp.abs(leaf) + 1e-8) - 2 * jnp.log(10.0)).astype(leaf.dtype) / SPEED

    return {"weights": weights, "log_variance": jax.tree.map(start, weights)}


def _noisy_loss(loss: Callable, params: Any, row: Any, batch: Any, key: jax.Array) -> jax.Array:
    """The loss of weights drawn from their distribution, and the penalty of kernels."""
    draw, key = jax.random.split(key)
    leaves, structure = jax.tree.flatten(params["weights"])
    variances = jax.tree.leaves(params["log_variance"])
    drawn, penalty = [], 0.0
    for number, (w, v) in enumerate(zip(leaves, variances)):
        if w.ndim > 1:
            noise = jax.random.normal(jax.random.fold_in(draw, number), w.shape, w.dtype)
            penalty += jnp.sum(dropout_penalty(_log_ratio(w, v)))
            w = w + jnp.exp(SPEED * v / 2) * noise
        drawn.append(w)
    weights = jax.tree.unflatten(structure, drawn)
    return loss(weights, row, batch, key=key) + row["penalty"] * penalty


def _drop_noisy(params: Any) -> Any:
    def kept(w, v):
        return jnp.where(_log_ratio(w, v) > LIMIT, 0, w) if w.ndim > 1 else w

    return jax.tree.map(kept, params["weights"], params["log_variance"])


def _log_ratio(w: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.clip(SPEED * v - 2 * jnp.log(jnp.abs(w) + 1e-8), -8.0, 8.0)


def _times(weights: Any, masks: Any) -> Any:
    return jax.tree.map(lambda w, m: w * m.astype(w.dtype), weights, masks)


#: method -> (start, loss, what is kept).
WAYS: dict[str, tuple[Callable, Callable, Callable]] = {
    "magnitude": (_start_masked, _masked_loss, lambda p: _times(p["weights"], p["masks"])),
    "variational": (_start_noisy, _noisy_loss, _drop_noisy),
    "finetuned": (
        lambda weights, row: weights,
        lambda loss, params, row, batch, key: loss(params, row, batch, key=key),
        lambda params: params,
    ),
}


def _flattened(params: Any) -> tuple[np.ndarray, Callable[[jax.Array], Any]]:
    """Weights as `(models, weights)`, and one row as a tree again."""
    leaves, structure = jax.tree.flatten(params)
    leaves = [np.asarray(leaf) for leaf in leaves]
    shapes = [leaf.shape[1:] for leaf in leaves]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def unflatten(row):
        pieces = jnp.split(row, ends)
        return jax.tree.unflatten(structure, [p.reshape(s) for p, s in zip(pieces, shapes)])

    flat = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    return flat, unflatten
