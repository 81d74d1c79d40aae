"""One graph metanetwork on networks of many architectures: `learn` for batches of mixed graphs."""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from configs._metanetworks import Entry, Training
from experiments._metanetworks.learn import Goal, Learnt, optimiser
from wsljax import representation, train, zoo


def learn_graphs(
    entry: Entry, networks: representation.HeterogeneousPopulation, split: zoo.Split, target: str,
    goal: Goal, training: Training, *, seed: int, log: Any = None,
) -> Learnt:  # fmt: skip
    """Train on the first part, choose the step on the second, measure once on the third.

    All batches are arrays of one size, whatever architectures are in them, so training and measuring
    are one compiled program each.

    Args:
        entry: of the method "graph_metanetwork".
        networks: of all parts.
        split: their rows.
        target: the column to be told.
        goal, training, seed, log: as of `learn`.

    Raises:
        ValueError: a method that does not read mixed batches.
    """
    if entry.method != "graph_metanetwork":
        raise ValueError(
            f"method {entry.method!r} does not read networks of several architectures in one batch; "
            "'graph_metanetwork' does."
        )
    key_draw, key_fit = jax.random.split(jax.random.key(seed))
    net = representation.Metanetwork(
        networks.plans[0].spec, entry.channels, entry.layers, goal.out, key=key_draw,
        method=entry.method, pooling=dict(entry.pooling), sizes=networks.sizes, **entry.options,
    )  # fmt: skip
    batch = min(training.batch, len(split.train))
    targets = {part: networks.columns[target][rows] for part, rows in split._asdict().items()}

    def pack(rows: np.ndarray) -> representation.GraphBatch:
        return networks.pack(rows, batch=batch, largest=True)

    def loss(net: Any, found: representation.GraphBatch, *, key: jax.Array) -> jax.Array:
        answers = representation.answer_batch(net, _noisy(found.graph, entry.noise, key))
        losses = jax.vmap(goal.loss)(answers, found.columns[target])
        return jnp.sum(losses * found.mask) / jnp.sum(found.mask)

    def measured(net: Any, part: str) -> np.ndarray:
        rows, answers = getattr(split, part), []
        for start in range(0, len(rows), batch):
            found = pack(rows[start : start + batch])
            answers.append(np.asarray(_answers(net, found.graph))[found.mask])
        return np.concatenate(answers)

    start = time.perf_counter()
    result = train.fit(
        loss, net, train.Source(len(split.train), lambda i: pack(split.train[i])), key=key_fit,
        steps=training.steps, batch_size=batch, every=training.every,
        optimiser=optimiser(training, entry.learning_rate), select=goal.select, log=log,
        evaluate=lambda net: goal.score(measured(net, "validation"), targets["validation"]),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    answers = measured(result.best, "test")
    count = sum(x.size for x in jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array)))
    return Learnt(answers, goal.score(answers, targets["test"]), count, seconds, result.history)


@eqx.filter_jit
def _answers(net: Any, graph: representation.ParameterGraph) -> jax.Array:
    return representation.answer_batch(net, graph)


def _noisy(
    graph: representation.ParameterGraph, size: float, key: jax.Array
) -> representation.ParameterGraph:
    """Every weight times 1 and a normal number of this deviation."""
    if not size:
        return graph

    def change(x: jax.Array, number: int) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
        return x * (1 + size * noise)

    values, chunks = change(graph.values, 0), change(graph.chunks, 1)
    return representation.ParameterGraph(values, chunks, graph.topology)
