"""The quickstart's last step: new digit classifiers, drawn from what good ones have in common."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.quickstart import Config
from experiments._digit_zoo import ACTIVATIONS, apply_network
from experiments._digits import Digits
from wsljax import generation, symmetry, zoo
from wsljax.generation import Diffusion, Generator, TaskGradient, evaluation
from wsljax.generation.denoisers import FlatDenoiser
from wsljax.generation.processes import LogNormalTimes, Preconditioned, VarianceExploding
from wsljax.generation.samplers import Heun
from wsljax.generation.spaces import CanonicalSpace, PrincipalSpace, fit_spaces

OURS = "diffusion, guided by the training loss"
LEAST_NOISE, MOST_NOISE = 0.01, 20.0
TASK, TASK_FLOOR, TASK_POWER = 9.0, 0.3, 1.5
BASELINES = (
    "training network + 0.1 sd", "raw interpolation", "aligned interpolation", "aligned soup of 16",
    "aligned PCA Gaussian",
)  # fmt: skip
COLUMNS = {
    "quality/accuracy mean": "test accuracy",
    "quotient/ratio": "novelty",
    "new and good/ratio 1, accuracy of the best 90%": "new and good",
}
"""What the table shows of each report."""


def generate(
    population: zoo.Population, digits: Digits, config: Config, key: jax.Array, *, log: Any = None
) -> evaluation.Comparison:
    """Learn from half of the good ReLU networks, draw others, and judge them beside trivial baselines.

    "Good" is by the digits that networks were trained on. Novelty is the distance to the nearest training
    network after alignment, in units of that between training networks.
    """
    keys = jax.random.split(key, 4)
    good = _good(population, digits, config.good)
    half = len(good) // 2
    training, held_out = good.take(np.arange(half)), good.take(np.arange(half, len(good)))
    generator = _fitted(training, config, keys[:2], log)
    task = TaskGradient(_log_loss, (digits.train_x, digits.train_y), scale=_strength)
    drawn = generator.sample(keys[2], config.drawn, task=task, at_once=64)
    trivial = generation.baselines.trivial_baselines(training, key=jax.random.fold_in(key, 1))
    size = next(n for n in trivial if n.startswith("aligned soup"))
    wanted = [size if n.startswith("aligned soup") else n for n in BASELINES]
    return evaluation.compare(
        {OURS: drawn, **{n: trivial[n] for n in wanted if n in trivial}}, training, held_out,
        key=keys[3], count=config.drawn, baselines=False, data=(digits.test_x, digits.test_y),
        function=apply_network, resamples=config.resamples, diversity=min(64, half),
    )  # fmt: skip


def _good(population: zoo.Population, digits: Digits, share: float) -> zoo.Population:
    """The ReLU networks with the smallest training loss, in random order, with their symmetry."""
    relu = population.take(
        np.asarray(population.columns["activation"]) == ACTIVATIONS.index("relu")
    )
    loss = functools.partial(_log_loss, x=digits.train_x, y=digits.train_y)
    values = np.asarray(jax.jit(lambda params: jax.lax.map(loss, params))(relu.params))
    order = np.argsort(np.where(np.isfinite(values), values, np.inf))
    chosen = np.random.default_rng(0).permutation(order[: max(8, round(share * len(order)))])
    good = relu.take(chosen)
    columns = {"run": jnp.arange(len(good)), "accuracy": good.columns["accuracy"]}
    good = zoo.Population(good.params, columns)
    kinds = ("permutation", "scale")
    return good.with_spec(symmetry.infer(apply_network, good[0], digits.train_x[:1], kinds=kinds))


def _fitted(training: zoo.Population, config: Config, keys: Any, log: Any) -> Generator:
    """Diffusion of principal components of aligned networks; the Gaussian of them is where it starts."""
    align = functools.partial(CanonicalSpace.fit, key=keys[0], rounds=2, kinds=("permutation",))
    space = fit_spaces(training, align, functools.partial(PrincipalSpace.fit, whiten=False))
    x = space.encode_all(jax.tree.map(jnp.asarray, training.params))
    net = FlatDenoiser(space.like, 256, 2, key=keys[0])
    generator = Diffusion(
        net, space, path=VarianceExploding(LEAST_NOISE, MOST_NOISE), times=LogNormalTimes(),
        target=Preconditioned(jnp.std(x, 0)), sampler=Heun(24),
    )  # fmt: skip
    rate = optax.warmup_cosine_decay_schedule(
        0.0, 2e-3, max(1, config.steps // 10), max(2, config.steps)
    )
    return generation.fit(
        generator, training, steps=config.steps, batch_size=min(config.batch, len(training)),
        optimiser=optax.adamw(rate, weight_decay=1e-2), key=keys[1], average=0.99, log=log,
    ).generator  # fmt: skip


def _log_loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The logarithm of the training loss of one network."""
    said = apply_network(params, x)
    return jnp.log(optax.softmax_cross_entropy_with_integer_labels(said, y).mean())


def _strength(t: Any) -> jax.Array:
    """Grows as the noise falls, as far as steps stay stable."""
    return TASK / jnp.maximum(MOST_NOISE * t, TASK_FLOOR) ** TASK_POWER


def rows_of(found: evaluation.Comparison) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Of every set of networks what the table shows, with intervals."""
    return {
        name: {
            word: tuple(float(v) for v in report.values[value])
            for value, word in COLUMNS.items()
            if value in report.values
        }
        for name, report in found.reports.items()
    }
