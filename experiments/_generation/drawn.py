"""The networks of one row: a baseline, or a generator that is put together, fitted and drawn from."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.generation import Row, Study
from experiments._generation.refitted import RefittedSpace
from experiments._generation.steps_after import NewStart, StepsAfter
from experiments._generation.zoos import LEARNT, GeneratedFrom, open_zoo
from wsljax import zoo
from wsljax.generation import Diffusion, Flow, Generator, TaskGradient, baselines, fit
from wsljax.generation.conditions import ClassCondition, Dropped, VectorCondition
from wsljax.generation.couplings import Aligned, QuotientTransport
from wsljax.generation.denoisers import EquivariantDenoiser, FlatDenoiser
from wsljax.generation.processes import (
    LogNormalTimes,
    Preconditioned,
    VarianceExploding,
    data_deviation,
)
from wsljax.generation.samplers import Heun
from wsljax.generation.spaces import (
    CanonicalSpace,
    FlatSpace,
    PrincipalSpace,
    WeightSpace,
    fit_spaces,
)

TOLD = 64
CLASSES = 10
LOSS = "train_cross_entropy"
LEAST_NOISE, MOST_NOISE = 0.01, 20.0
TASK_FLOOR, TASK_POWER = 0.3, 1.5


class Drawn(NamedTuple):
    """Attributes:
    networks: those to judge, stacked.
    parameters: of what was fitted, or None.
    seconds: of fitting and drawing, compilation included.
    history: of the fit.
    asked: the class that each was asked to draw, or None.
    """

    networks: Any
    parameters: int | None
    seconds: float
    history: list[dict[str, float]]
    asked: np.ndarray | None = None


class Source:
    """The training networks of a study in their forms, each made once.

    Args:
        study: what is studied.
        opened: `open_zoo` of it.
        options: of `open_zoo`, for all snapshots.
    """

    def __init__(self, study: Study, opened: GeneratedFrom, options: dict[str, Any]):
        self.study, self.zoo, self._options = study, opened, options
        self._kept: dict[Any, Any] = {}

    def networks(self, form: str, snapshots: bool = False) -> zoo.Population:
        """Training networks in a form."""
        if (form, snapshots) not in self._kept:
            self._kept[form, snapshots] = self._made(form, snapshots)
        return self._kept[form, snapshots]

    def baselines(self, form: str) -> dict[str, Generator]:
        """The trivial ones, of networks in a form."""
        if ("baselines", form) not in self._kept:
            networks = self.networks(form)
            if form == "refitted" or self.study.zoo == LEARNT:  # they lie side by side already
                networks = networks.with_spec(None)
            self._kept["baselines", form] = baselines.trivial_baselines(
                networks, key=jax.random.key(1)
            )
        return self._kept["baselines", form]

    def _made(self, form: str, snapshots: bool) -> zoo.Population:
        last = self.zoo.training
        key = jax.random.key(2)
        if form == "raw":
            return open_zoo(**self._options, last=False).training if snapshots else last
        given = self.networks("raw", snapshots)
        if form == "refitted":
            space: Any = self._refitting(key)
        else:
            kinds = {"balanced": (), "canonical": ("permutation", "sign")}[form]
            space = CanonicalSpace.fit(last, key=key, rounds=3, kinds=kinds)
        return given.with_params(space.encode_all(jax.tree.map(jnp.asarray, given.params)))

    def _refitting(self, key: jax.Array) -> RefittedSpace:
        """From a start that none of the training networks had."""
        training = self.zoo.training
        inputs = self.zoo.points if self.zoo.trained_on is None else self.zoo.trained_on[0]
        row = training.row(0)
        start = training.function.init(key=key)
        function = lambda p, x: training.function.apply(p, x, row)  # noqa: E731
        return RefittedSpace(start, inputs, function, **self.study.refit)  # pyright: ignore[reportArgumentType]

    def loss(self) -> Any:
        """The training loss of one network, `loss(params, inputs, targets)`."""
        if "loss" not in self._kept:
            training, row = self.zoo.training, self.zoo.training.row(0)

            def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
                said = training.function.apply(params, x, row)
                return optax.softmax_cross_entropy_with_integer_labels(said, y).mean()

            self._kept["loss"] = loss
        return self._kept["loss"]


def draw(row: Row, source: Source, seed: int, *, log: Any = None) -> Drawn:
    """The networks of a row, and what they cost."""
    key, began = jax.random.key(seed), time.perf_counter()
    fit_key, draw_key = jax.random.split(key)
    count, training = source.study.count, source.zoo.training
    if row.family == "held-out":
        return Drawn(source.zoo.held_out.params, None, 0.0, [])
    parameters, history, options = None, [], {}
    asked = np.arange(count) % CLASSES if row.by_class else None
    if row.family == "baseline" and row.by_class:
        generator, options = _OfEachClass(source, row), {"condition": asked}
    elif row.family == "baseline":
        generator = source.baselines(row.form)[row.baseline]
    elif row.family == "start":
        generator = NewStart(training.function)
    else:
        generator, history, options = _fitted(row, source, fit_key, count, asked, log)
        arrays = jax.tree.leaves(generator.net)
        parameters = sum(x.size for x in arrays if hasattr(x, "size"))
    if row.steps_after:
        generator = StepsAfter(
            generator, source.loss(), source.zoo.trained_on, row.steps_after, row.rate_after
        )
    networks = jax.block_until_ready(generator.sample(draw_key, count, at_once=128, **options))
    return Drawn(networks, parameters, time.perf_counter() - began, history, asked)


class _OfEachClass:
    """A trivial baseline of each class of images."""

    def __init__(self, source: Source, row: Row):
        training = source.networks(row.form)
        labels = np.asarray(training.columns["label"])
        if row.baseline.startswith("raw"):
            training = training.with_spec(None)
        parts = [training.take(np.flatnonzero(labels == c)) for c in range(CLASSES)]
        key = jax.random.key(1)
        self.each = [baselines.trivial_baselines(p, key=key)[row.baseline] for p in parts]

    def sample(self, key: jax.Array, n: int, *, condition: np.ndarray, at_once: int) -> Any:
        """As many of each class as `condition` has, in its order."""
        assert len(condition) == n
        drawn = [
            generator.sample(
                jax.random.fold_in(key, c), int((condition == c).sum()), at_once=at_once
            )
            for c, generator in enumerate(self.each)
            if (condition == c).any()
        ]
        back = np.argsort(np.argsort(condition, kind="stable"), kind="stable")
        return jax.tree.map(lambda *x: jnp.concatenate(x)[back], *drawn)


def _fitted(
    row: Row, source: Source, key: jax.Array, count: int, asked: np.ndarray | None, log: Any
) -> Any:
    """The fitted generator, the history of its fit, and the options of `sample`."""
    networks = source.networks(row.form, row.snapshots)
    keys = jax.random.split(key, 4)
    how = source.study.training
    condition, conditioner, options = None, None, {}
    if row.ask is not None:
        told = lambda p: np.log(np.asarray(p.columns[LOSS], np.float64))  # noqa: E731
        condition = jnp.asarray(told(networks), jnp.float32)
        conditioner = Dropped(
            VectorCondition.fit(condition, TOLD, key=keys[0], waves=4, highest=6.0), key=keys[1]
        )
        wanted = np.quantile(told(source.zoo.training), row.ask)
        options = {"condition": jnp.full(count, wanted, jnp.float32), "guidance": row.guidance}
    if asked is not None:
        condition = jnp.asarray(networks.columns["label"], jnp.int32)
        conditioner = Dropped(ClassCondition(CLASSES, TOLD, key=keys[0]), key=keys[1])
        options = {"condition": jnp.asarray(asked), "guidance": row.guidance}
    generator = _generator(row, source, networks, conditioner, keys[2])
    if row.task:
        logarithm = partial(_logarithm, source.loss())
        options["task"] = TaskGradient(
            logarithm, source.zoo.trained_on, scale=partial(_strength, row.task)
        )
    rate = optax.warmup_cosine_decay_schedule(
        0.0, how.learning_rate, max(1, how.steps // 10), how.steps
    )
    augment = None
    if row.augment:
        spec = networks.spec
        names = [u.name for u in spec.units]

        def augment(params: Any, *, key: jax.Array) -> Any:
            element = spec.sample(key)
            return spec.act({name: element[name] for name in names}, params)

    found = fit(
        generator, networks, condition=condition, steps=how.steps,
        batch_size=min(how.batch, len(networks)),
        optimiser=optax.adamw(rate, weight_decay=how.weight_decay), key=keys[3],
        average=how.average, augment=augment, log=log,
    )  # fmt: skip
    return found.generator, found.history, options


def _generator(row: Row, source: Source, networks: Any, conditioner: Any, key: jax.Array) -> Any:
    told = None if conditioner is None else conditioner.size
    flat = row.denoiser == "flat"
    sampler = Heun(source.study.training.sampler_steps)
    if row.components is None:
        space = fit_spaces(networks, WeightSpace.fit, *([FlatSpace.fit] if flat else []))
    else:
        components = row.components or None
        whiten = row.family == "flow"
        space = fit_spaces(
            networks, partial(PrincipalSpace.fit, components=components, whiten=whiten)
        )
    if flat:
        net: Any = FlatDenoiser(space.like, row.width, row.layers, key=key, told=told)
    else:
        net = EquivariantDenoiser(space.spec, row.width, row.layers, key=key, told=told)
    parts = {"conditioner": conditioner, "sampler": sampler}
    if row.family == "flow":
        return Flow(net, space, coupling=_coupling(row, space), **parts)
    x = space.encode_all(jax.tree.map(jnp.asarray, networks.params))
    deviation = data_deviation(x) if row.components is None else jnp.std(x, 0)
    path = VarianceExploding(LEAST_NOISE, MOST_NOISE)
    return Diffusion(
        net, space, path=path, target=Preconditioned(deviation), times=LogNormalTimes(), **parts
    )


def _coupling(row: Row, space: Any) -> Any:
    if row.coupling == "independent":
        return None
    first, *rest = space.spaces
    if row.coupling == "aligned":
        return Aligned(first.spec, space=rest[0] if rest else None)
    return QuotientTransport(first.spec, rest[0] if rest else None, size=8)


def _logarithm(loss: Any, params: Any, *inputs: Any) -> jax.Array:
    return jnp.log(loss(params, *inputs))


def _strength(task: float, t: Any) -> jax.Array:
    """Grows as the noise falls, as far as steps stay stable."""
    return task / jnp.maximum(MOST_NOISE * t, TASK_FLOOR) ** TASK_POWER
