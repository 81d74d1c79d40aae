"""Optimisers as rows of numbers, so that each network of a population may have its own.

SGD, momentum, Nesterov, RMSprop, Adagrad, Adam, AdamW, sign descent and Lion are one update with
different coefficients. There is no branch in it, so under `vmap` a mixed population costs what one
optimiser costs::

    g   <- g + [L2] weight_decay * p
    d    = look_memory * m + look_grad * g                 the direction
    m   <- memory_decay * m + memory_gain * g              first moment
    v   <- square_decay * v + square_gain * g^2            second moment
    d    = d / (1 - memory_decay^t)                        if unbiased; v likewise with square_decay
    d    = d / (sqrt(v) + epsilon)  or  sign(d)  or  d
    p   <- p - learning_rate * (d + [decoupled] weight_decay * p)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rule(NamedTuple):
    """The coefficients above: floats for one network, arrays `(models,)` for a population."""

    look_memory: Any
    look_grad: Any
    memory_decay: Any
    memory_gain: Any
    square_decay: Any
    square_gain: Any
    adaptive: Any  # 1: divide by the root of the second moment
    unbiased: Any  # 1: correct both moments for starting at zero
    sign: Any  # 1: take the sign of the direction
    decoupled: Any  # 1: weight decay beside the gradient (AdamW), 0: inside it (L2)


class OptimiserState(NamedTuple):
    """Both moments, shaped like the parameters, in float32 at least."""

    memory: Any
    square: Any


def _sgd(momentum: float, square: float) -> Rule:
    return Rule(0, 1, 0, 0, 0, 0, 0, 0, 0, 0)


def _momentum(momentum: float, square: float) -> Rule:
    return Rule(momentum, 1, momentum, 1, 0, 0, 0, 0, 0, 0)


def _nesterov(momentum: float, square: float) -> Rule:
    return Rule(momentum**2, 1 + momentum, momentum, 1, 0, 0, 0, 0, 0, 0)


def _rmsprop(momentum: float, square: float) -> Rule:
    return Rule(0, 1, 0, 0, square, 1 - square, 1, 0, 0, 0)


def _adagrad(momentum: float, square: float) -> Rule:
    return Rule(0, 1, 0, 0, 1, 1, 1, 0, 0, 0)


def _adam(momentum: float, square: float) -> Rule:
    return Rule(momentum, 1 - momentum, momentum, 1 - momentum, square, 1 - square, 1, 1, 0, 0)


def _adamw(momentum: float, square: float) -> Rule:
    return _adam(momentum, square)._replace(decoupled=1)


def _sign(momentum: float, square: float) -> Rule:
    return Rule(momentum, 1 - momentum, momentum, 1 - momentum, 0, 0, 0, 0, 1, 0)


def _lion(momentum: float, square: float) -> Rule:
    return Rule(momentum, 1 - momentum, square, 1 - square, 0, 0, 0, 0, 1, 1)


#: name -> (rule from momentum and second decay, their defaults). Sources: Polyak 1964 (momentum),
#: Sutskever 2013 (nesterov), Tieleman and Hinton 2012 (rmsprop), Duchi 2011 (adagrad), Kingma and
#: Ba 2015 (adam), Loshchilov and Hutter 2019 (adamw), Bernstein 2018 (sign), Chen 2023 (lion).
OPTIMISERS = {
    "sgd": (_sgd, 0.0, 0.0),
    "momentum": (_momentum, 0.9, 0.0),
    "nesterov": (_nesterov, 0.9, 0.0),
    "rmsprop": (_rmsprop, 0.0, 0.9),
    "adagrad": (_adagrad, 0.0, 1.0),
    "adam": (_adam, 0.9, 0.999),
    "adamw": (_adamw, 0.9, 0.999),
    "sign": (_sign, 0.9, 0.0),
    "lion": (_lion, 0.9, 0.99),
}


def optimiser_rules(
    names: Sequence[str],
    *,
    momentum: Sequence[float] | np.ndarray | None = None,
    square_decay: Sequence[float] | np.ndarray | None = None,
) -> Rule:
    """The rules of a population as arrays.

    Args:
        names: one name from `OPTIMISERS` a network.
        momentum: one a network, instead of each optimiser's own default.
        square_decay: likewise, decay of the second moment (of Lion: of its memory).

    Returns:
        A `Rule` of float32 arrays `(models,)`.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> optimiser_rules(["sgd", "adam"]).adaptive
        array([0., 1.], dtype=float32)
    """
    rules = []
    for index, name in enumerate(names):
        if name not in OPTIMISERS:
            raise ValueError(f"unknown optimiser {name!r}; there are {sorted(OPTIMISERS)}.")
        make, first, second = OPTIMISERS[name]
        first = first if momentum is None else float(momentum[index])
        second = second if square_decay is None else float(square_decay[index])
        rules.append(make(first, second))
    return Rule(*(np.asarray(column, np.float32) for column in zip(*rules)))


def init_optimiser(params: Any) -> OptimiserState:
    """Moments at zero."""
    zeros = lambda: jax.tree.map(lambda p: jnp.zeros(p.shape, _moment_dtype(p)), params)  # noqa: E731
    return OptimiserState(zeros(), zeros())


def update_optimiser(
    params: Any,
    state: OptimiserState,
    grads: Any,
    rule: Rule,
    settings: Mapping[str, jax.Array],
    count: jax.Array,
) -> tuple[Any, OptimiserState]:
    """One step of one network (see the module's equations); vmap it over a population.

    Args:
        params, state, grads: trees of one structure.
        rule: scalars.
        settings: `learning_rate`, `weight_decay` and `epsilon`, scalars.
        count: steps taken, this one included.

    Returns:
        New parameters, in their own dtypes, and the new state.
    """
    # A decay of exactly 1 (Adagrad) or 0 never comes with a correction; keep the power finite.
    first_mass = _mass(rule.memory_decay, rule.unbiased, count)
    second_mass = _mass(rule.square_decay, rule.unbiased, count)
    rate, decay, epsilon = (settings[n] for n in ("learning_rate", "weight_decay", "epsilon"))

    def one(param, memory, square, grad):
        dtype = memory.dtype
        cast = lambda x: jnp.asarray(x, dtype)  # noqa: E731
        wide, grad = param.astype(dtype), grad.astype(dtype)
        grad = grad + cast((1 - rule.decoupled) * decay) * wide
        step = cast(rule.look_memory) * memory + cast(rule.look_grad) * grad
        memory = cast(rule.memory_decay) * memory + cast(rule.memory_gain) * grad
        square = cast(rule.square_decay) * square + cast(rule.square_gain) * grad**2
        root = jnp.sqrt(square / cast(second_mass)) + cast(epsilon)
        step = step / (cast(first_mass) * jnp.where(rule.adaptive > 0, root, cast(1)))
        step = jnp.where(rule.sign > 0, jnp.sign(step), step)
        wide = wide - cast(rate) * (step + cast(rule.decoupled * decay) * wide)
        return wide.astype(param.dtype), memory, square

    leaves, structure = jax.tree.flatten(params)
    parts = [
        one(*leaf)
        for leaf in zip(
            leaves,
            structure.flatten_up_to(state.memory),
            structure.flatten_up_to(state.square),
            structure.flatten_up_to(grads),
        )
    ]
    trees = [structure.unflatten(part) for part in zip(*parts)] or [params, params, params]
    return trees[0], OptimiserState(trees[1], trees[2])


def _mass(decay: Any, unbiased: Any, count: Any) -> Any:
    return jnp.where(unbiased > 0, 1 - jnp.where(unbiased > 0, decay, 0) ** count, 1)


def _moment_dtype(param: Any) -> Any:
    return jnp.promote_types(param.dtype, jnp.float32)
