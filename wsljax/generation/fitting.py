"""Fitting a generator to a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import train
from .._compat import key_path_str
from ..zoo.population import Population
from .generator import Batch, Generator
from .spaces.space import is_floating, on_device


class Fitted(NamedTuple):
    """What `fit` returns.

    Attributes:
        generator: trained, with averaged weights; the best one, if one was selected.
        history: one dict an evaluation: `step`, the mean `loss` since the last one, `held_out`.
        step: after how many steps the generator is that of.
    """

    generator: Any
    history: list[dict[str, float]]
    step: int


def fit(
    generator: Generator,
    population: Any,
    *,
    condition: Any = None,
    steps: int,
    batch_size: int,
    optimiser: optax.GradientTransformation,
    key: jax.Array,
    average: float | None = 0.999,
    augment: Callable[..., Any] | None = None,
    held_out: Any = None,
    held_out_condition: Any = None,
    select: bool = False,
    every: int | None = None,
    **options: Any,
) -> Fitted:
    """Train a generator on a population: `train.fit` on networks in its space.

    Networks are encoded once, before the first step, unless they are augmented.

    Args:
        generator: of any family.
        population: a `Population`, or stacked networks `(models, ...)`: the training networks alone.
        condition: what each network is conditioned on: a column of the population by its name, several
            of them (a list of names, or a dict that renames), or a tree of arrays `(models, ...)`.
        steps, batch_size, optimiser: as in `train.fit`.
        key: a typed key.
        average: decay of the average of the weights, which is what is returned; None for none.
        augment: `augment(params, key=key)`, another network of the same function, drawn for each network in each
            step (`spec.act(spec.sample(key), params)`); encoding then takes place in each step.
        held_out: networks that are not trained on; their loss, always with the same noise, is reported as
            `held_out`.
        held_out_condition: their condition, by default `condition` if that goes by names.
        select: return the generator with the smallest `held_out`.
        every: steps between two reports (default: a tenth of all).
        **options: of `train.fit`: `log`, `checkpointer`, `mesh`, `accumulate`, `profile`.

    Returns:
        `(generator, history, step)`.

    Raises:
        ValueError: weights or conditions that are not finite, a column that is not there, or other numbers of rows.

    Example:
        >>> from wsljax.generation import Diffusion
        >>> from wsljax.generation.spaces import IdentitySpace
        >>> stack = {"w": jnp.ones((8, 3))}
        >>> class Shift(eqx.Module):
        ...     w: jax.Array
        ...     def __call__(self, x, level, told, beside):
        ...         return {"w": 0 * x["w"] + self.w}
        >>> model = Diffusion(Shift(jnp.zeros(3)), IdentitySpace({"w": jnp.zeros(3)}), target="data")
        >>> model, history, _ = fit(model, stack, steps=200, batch_size=4, optimiser=optax.adam(0.05),
        ...                         key=jax.random.key(0), average=None)
        >>> model.net.w.round(2).tolist()
        [1.0, 1.0, 1.0]
    """
    data, others = _networks(population, condition)
    trained, kept = eqx.partition(generator, generator.trainable())
    shared = _Shared(others)

    def with_rest(model: Any) -> Any:
        return eqx.combine(model, kept)

    if augment is None:
        data = generator.prepare(Batch(shared.join(data.params), data.condition))

    def loss(model: Any, batch: Batch, *, key: jax.Array) -> Any:
        model = with_rest(model)
        if augment is not None:
            augment_key, key = jax.random.split(key)
            batch = model.prepare(shared.augmented(augment, batch, augment_key))
        return model.loss(batch, key=key)

    evaluate = None
    if held_out is not None:
        if held_out_condition is None and _by_name(condition):
            held_out_condition = condition
        raw, others = _networks(held_out, held_out_condition)
        prepared = generator.prepare(Batch(_Shared(others).join(raw.params), raw.condition))
        evaluate = _held_out_loss(with_rest, prepared, batch_size, jax.random.fold_in(key, 1))
    elif select:
        raise ValueError("`select` goes by the loss of networks that are `held_out`; give some.")
    found = train.fit(
        loss,
        trained,
        data,
        steps=steps,
        batch_size=batch_size,
        optimiser=optimiser,
        key=key,
        every=every or max(1, steps // 10),
        evaluate=evaluate,
        select=("held_out", "min") if select else None,
        average=average,
        **options,
    )
    return Fitted(with_rest(found.best), found.history, found.best_step)


class _Shared(NamedTuple):
    """Leaves of stacked networks that are not arrays, the same in all."""

    others: Any

    def join(self, arrays: Any) -> Any:
        return eqx.combine(arrays, self.others)

    def augmented(self, augment: Callable[..., Any], batch: Batch, key: jax.Array) -> Batch:
        def one(arrays: Any, key: jax.Array) -> Any:
            return eqx.filter(augment(self.join(arrays), key=key), eqx.is_array)

        keys = jax.random.split(key, jax.tree.leaves(batch.params)[0].shape[0])
        return Batch(self.join(jax.vmap(one)(batch.params, keys)), batch.condition)


def _held_out_loss(
    with_rest: Callable[[Any], Any], data: Batch, batch_size: int, key: jax.Array
) -> Callable[[Any], dict[str, Any]]:
    """The mean loss over whole batches, always with the same noise."""
    count = jax.tree.leaves(data.params)[0].shape[0]
    size = min(batch_size, count)

    @eqx.filter_jit
    def one(model: Any, data: Batch, number: jax.Array) -> jax.Array:
        rows = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, number * size, size), data)
        value = with_rest(model).loss(rows, key=jax.random.fold_in(key, number))
        return value[0] if isinstance(value, tuple) else value

    def evaluate(model: Any) -> dict[str, Any]:
        values = [one(model, data, jnp.asarray(i)) for i in range(count // size)]
        return {"held_out": sum(values) / len(values)}

    return evaluate


def _networks(population: Any, condition: Any) -> tuple[Batch, Any]:
    """Arrays of the networks with their conditions, checked, and the leaves that are not arrays."""
    params = population.params if isinstance(population, Population) else population
    params = on_device(params)
    arrays, others = eqx.partition(params, eqx.is_array)
    batch = Batch(arrays, find_condition(population, condition))
    lengths = set()
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        name = key_path_str(path)
        lengths.add(leaf.shape[:1])
        if len(lengths) > 1 or not leaf.ndim or not leaf.shape[0]:
            raise ValueError(f"{name} has shape {leaf.shape}; all need one row for each network.")
        if name.startswith("params") and is_floating(leaf):
            finite = np.isfinite(np.asarray(leaf, np.float32))
            good = np.asarray(finite.reshape(leaf.shape[0], -1).all(1))
            if not good.all():
                raise ValueError(
                    f"{name} is not finite in {int((~good).sum())} of {len(good)} networks, network "
                    f"{int(np.argmin(good))} the first; keep the others by "
                    "`population.take(zoo.finite_members(population))`."
                )
    if not lengths:
        raise ValueError("the population holds no arrays.")
    return batch, others


def _by_name(condition: Any) -> bool:
    leaves = jax.tree.leaves(condition)
    return bool(leaves) and all(isinstance(leaf, str) for leaf in leaves)


def find_condition(population: Any, condition: Any) -> Any:
    """The condition of each network, as arrays `(models, ...)`.

    A name is the column of that name; a list of names is a dict of columns; in a dict, values may be names
    or arrays.

    Raises:
        ValueError: a name that is no column.

    Example:
        >>> zoo = Population({"w": jnp.zeros((2, 1))}, {"loss": jnp.array([0.5, 0.25])})
        >>> find_condition(zoo, ["loss"])["loss"].tolist(), find_condition(zoo, {"asked": "loss"})["asked"].tolist()
        ([0.5, 0.25], [0.5, 0.25])
    """
    if isinstance(condition, Population):
        return condition.params
    if isinstance(condition, Sequence) and condition and all(isinstance(c, str) for c in condition):
        if not isinstance(condition, str):
            condition = {name: name for name in condition}
    if isinstance(condition, str):
        columns: Mapping[str, Any] = getattr(population, "columns", {})
        if condition not in columns:
            raise ValueError(f"there is no column {condition!r}; there are {sorted(columns)}.")
        return jnp.asarray(columns[condition])
    if isinstance(condition, Mapping):
        return {name: find_condition(population, value) for name, value in condition.items()}
    return jax.tree.map(jnp.asarray, condition)
