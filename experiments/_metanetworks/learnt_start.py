"""One start for all fits, learnt: from it a few gradient steps draw any image of a kind.

The start and a learning rate for each weight are trained through the steps of the fits (Finn et al.,
"Model-agnostic meta-learning", 2017; Li et al., "Meta-SGD", 2017). With guidance a small network must also
read the class from what the fit changed, and its gradient goes through the fit as well (Gielisse and van
Gemert, "End-to-end implicit neural representations for classification", 2025: weight 0.01).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs._metanetworks import LearntStart
from wsljax import train, zoo


class Start(NamedTuple):
    """Weights that all fits start from, and the learning rate of each."""

    params: Any
    rates: Any


def learn_start(
    function: zoo.Function,
    points: Any,
    signals: Any,
    labels: Any,
    options: LearntStart,
    *,
    key: jax.Array,
    log: Any = None,
) -> Start:
    """Learn the start of fits of signals.

    Args:
        function: of the networks.
        points: `(n, coordinates)`, where signals are known.
        signals: `(signals, n, channels)`, those of training only.
        labels: `(signals,)`, their classes.
        options: how.
        key: of everything that is drawn.
        log: as in `train.fit`.
    """
    key_start, key_read, key_fit = jax.random.split(key, 3)
    params = function.init({}, key=key_start)
    count = sum(x.size for x in jax.tree.leaves(params))
    model = {
        "params": params,
        "rates": jax.tree.map(lambda x: jnp.full_like(x, np.log(options.fit_rate)), params),
        "read": eqx.nn.MLP(
            count, int(np.max(labels)) + 1, options.width, depth=1, key=key_read
        ),
    }  # fmt: skip
    points = jnp.asarray(points)

    def one(model, signal, label):
        rates = jax.tree.map(jnp.exp, model["rates"])
        fitted = fit(function, points, signal, Start(model["params"], rates), options.fit_steps)
        error = jnp.mean(jnp.square(function.apply(fitted, points) - signal))
        moved = jax.tree.map(jnp.subtract, fitted, model["params"])
        flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(moved)])
        said = model["read"](options.gain * flat)
        wrong = optax.softmax_cross_entropy_with_integer_labels(said, label)
        return error + options.guidance * wrong

    def loss(model, batch, *, key):
        return jnp.mean(jax.vmap(lambda s, y: one(model, s, y))(batch["signals"], batch["labels"]))

    speeds = {"params": options.rate, "rates": 30 * options.rate, "read": 3 * options.rate}
    steps = options.steps
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition(
            {n: optax.adam(optax.cosine_decay_schedule(r, steps)) for n, r in speeds.items()},
            lambda tree: {part: jax.tree.map(lambda _, p=part: p, tree[part]) for part in tree},
        ),
    )
    found = train.fit(
        loss, model, {"signals": np.asarray(signals), "labels": np.asarray(labels)}, key=key_fit,
        steps=steps, batch_size=min(options.batch, len(labels)), every=max(1, steps // 10),
        optimiser=optimiser, log=log,
    ).model  # fmt: skip
    return Start(found["params"], jax.tree.map(jnp.exp, found["rates"]))


def fit(
    function: zoo.Function, points: jax.Array, signal: jax.Array, start: Start, steps: int
) -> Any:
    """The weights after so many gradient steps on the squared error of one signal."""

    def loss(params):
        return jnp.mean(jnp.square(function.apply(params, points) - signal))

    def step(params, _):
        grads = jax.grad(loss)(params)
        return jax.tree.map(lambda p, r, g: p - r * g, params, start.rates, grads), None

    return jax.lax.scan(step, start.params, length=steps)[0]


def fit_all(
    function: zoo.Function, points: Any, signals: Any, start: Start, steps: int
) -> tuple[Any, np.ndarray]:
    """The weights of fits of all signals, stacked, and the mean squared error of each."""
    points = jnp.asarray(points)
    run: Callable[..., Any] = jax.jit(
        jax.vmap(lambda s: _fitted(function, points, s, start, steps))
    )
    signals = np.asarray(signals)
    size = min(256, len(signals))
    starts = [min(at, len(signals) - size) for at in range(0, len(signals), size)]
    kept = [slice(at - min(at, len(signals) - size), None) for at in range(0, len(signals), size)]
    found = [
        jax.tree.map(lambda x, k=k: np.asarray(x)[k], run(signals[at : at + size]))
        for at, k in zip(starts, kept, strict=True)
    ]
    params, errors = jax.tree.map(lambda *x: np.concatenate(x), *found)
    return params, errors


def _fitted(function, points, signal, start, steps):
    params = fit(function, points, signal, start, steps)
    return params, jnp.mean(jnp.square(function.apply(params, points) - signal))
