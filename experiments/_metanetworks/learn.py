"""One method on one population: drawn, trained, and measured on networks that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs._metanetworks import Entry, Training
from wsljax import representation, train
from wsljax.symmetry import Spec

BATCH = 128
"""Networks that are measured together."""

Draw = Callable[..., Any]


class Part(NamedTuple):
    """Networks and what is to be said of them: `(networks, ...)` everywhere."""

    params: Any
    targets: Any


class Goal(NamedTuple):
    """What a study wants of an answer.

    Attributes:
        out: how many numbers an answer has.
        loss: `loss(answer, target)`, of one network.
        score: `score(answers, targets)`, numpy arrays, a dict of numbers.
        select: the score by which the best evaluation is kept, and "max" or "min".
    """

    out: int
    loss: Callable[[jax.Array, Any], jax.Array]
    score: Callable[[np.ndarray, Any], dict[str, float]]
    select: tuple[str, str]


class Learnt(NamedTuple):
    """What came of it.

    Attributes:
        answers: to the test networks.
        scores: of them.
        parameters: numbers that were trained.
        seconds: of training, compilation included.
        history: of the loop.
    """

    answers: np.ndarray
    scores: dict[str, float]
    parameters: int
    seconds: float
    history: list[dict[str, float]]


def learn(
    entry: Entry,
    spec: Spec,
    parts: tuple[Part, Part, Part],
    goal: Goal,
    training: Training,
    *,
    seed: int,
    log: Any = None,
    draw: Draw | None = None,
) -> Learnt:
    """Train on the first part, choose the step on the second, measure once on the third.

    `draw(entry, spec, params, out, key=)` makes the module to be trained, from the weights of one
    network to an answer; `params` are training networks. By default it is a metanetwork.
    """
    key_draw, key_fit = jax.random.split(jax.random.key(seed))
    first, second, third = parts
    net = (draw or metanetwork)(entry, spec, first.params, goal.out, key=key_draw)
    start = time.perf_counter()
    result = train.fit(
        loss_of(goal, changed(entry, spec)), net, first._asdict(), key=key_fit,
        steps=training.steps, batch_size=training.batch, every=training.every,
        optimiser=optimiser(training, entry.learning_rate), select=goal.select, log=log,
        evaluate=lambda net: goal.score(answers(net, second.params), second.targets),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    found = answers(result.best, third.params)
    count = sum(x.size for x in jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array)))
    return Learnt(found, goal.score(found, third.targets), count, seconds, result.history)


def metanetwork(entry: Entry, spec: Spec, params: Any, out: int, *, key: jax.Array) -> Any:
    """The metanetwork of an entry.

    Raises:
        ValueError: the entry asks for probes, or for networks of a learnt start, which a study must
            know how to read; see `reading.reader`.
    """
    if entry.probes or entry.start != "own":
        raise ValueError(
            "this study reads weights alone; entries with probes or start='learnt' need `draw="
            "reading.reader(...)`."
        )
    return drawn(entry, spec, representation.block_scales(spec, params), out, key=key)


def drawn(entry: Entry, spec: Spec, scales: Mapping[str, float], out: int, *, key: jax.Array):
    """A `representation.Metanetwork` with the options of an entry."""
    return representation.Metanetwork(
        spec, entry.channels, entry.layers, out, key=key, method=entry.method,
        pooling=dict(entry.pooling), scales=scales, **entry.options,
    )  # fmt: skip


def loss_of(goal: Goal, change: Callable[[Any, jax.Array], Any]) -> Callable[..., jax.Array]:
    """The mean loss over a batch of networks, each changed by a random element first."""

    def loss(net: Any, batch: Mapping[str, Any], *, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(jax.tree.leaves(batch["targets"])[0]))
        return jnp.mean(
            jax.vmap(lambda p, y, k: goal.loss(net(change(p, k)), y))(
                batch["params"], batch["targets"], keys
            )
        )

    return loss


def changed(entry: Entry, spec: Spec) -> Callable[[Any, jax.Array], Any]:
    """What a network is turned into before it is trained on: the same function with other weights, and
    noise on them."""
    kinds = tuple(entry.augment)

    def change(params: Any, key: jax.Array) -> Any:
        if kinds:
            params = spec.act(spec.sample(key, kinds=kinds), params)
        if entry.noise:
            leaves, tree = jax.tree.flatten(params)
            keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
            leaves = [
                x * (1 + entry.noise * jax.random.normal(k, x.shape, x.dtype))
                for x, k in zip(leaves, keys, strict=True)
            ]
            params = tree.unflatten(leaves)
        return params

    return change


def optimiser(training: Training, peak: float | None = None) -> optax.GradientTransformation:
    """AdamW as a table has it; with a learning rate of its own for a row that has one."""
    peak = training.learning_rate if peak is None else peak
    rate = optax.warmup_cosine_decay_schedule(
        0.0, peak, max(1, training.steps // 10), max(2, training.steps)
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=training.weight_decay)
    )


def answers(net: Any, params: Any) -> np.ndarray:
    """The answers to all networks of a population, in batches."""
    count = len(jax.tree.leaves(params)[0])
    size = min(BATCH, count)
    starts = [min(at, count - size) for at in range(0, count, size)]
    found = np.concatenate([_run(net, params, at, size) for at in starts])
    rows = np.concatenate([np.arange(at, at + size) for at in starts])
    return found[np.unique(rows, return_index=True)[1]]


@eqx.filter_jit
def _at(net: Any, params: Any, start: jax.Array, size: int) -> jax.Array:
    part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), params)
    return jax.vmap(net)(part)


def _run(net: Any, params: Any, start: int, size: int) -> np.ndarray:
    return np.asarray(_at(net, params, jnp.asarray(start), size))


def classification(classes: int) -> Goal:
    """Classes by cross entropy; scores `accuracy` and `cross_entropy`."""

    def loss(answer, target):
        return optax.softmax_cross_entropy_with_integer_labels(answer, target)

    def score(found, targets):
        targets = np.asarray(targets)
        shifted = found - found.max(axis=-1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return {
            "accuracy": float(np.mean(found.argmax(axis=-1) == targets)),
            "cross_entropy": float(-np.mean(log[np.arange(len(log)), targets])),
        }

    return Goal(classes, loss, score, ("accuracy", "max"))


def regression(scale: tuple[float, float]) -> Goal:
    """One number in [0, 1], such as an accuracy, by its standardised logit; scores `r2` and `tau`.

    `scale` is mean and deviation of the logits of the training networks.
    """
    mean, deviation = scale

    def loss(answer, target):
        return optax.huber_loss(answer[0], (logit(target) - mean) / deviation)

    def score(found, targets):
        guess = 1.02 / (1 + np.exp(-(found[:, 0] * deviation + mean))) - 0.01
        guess, truth = jnp.asarray(guess), jnp.asarray(targets)
        return {"r2": float(train.r2(guess, truth)), "tau": float(train.kendall_tau(guess, truth))}

    return Goal(1, loss, score, ("r2", "max"))


def logit(accuracy: Any) -> Any:
    """The logit, with a margin of one in a hundred."""
    return jnp.log((accuracy + 0.01) / (1.01 - accuracy))
