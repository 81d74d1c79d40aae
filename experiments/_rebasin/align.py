"""The alignments that `experiments/rebasin.py` compares, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from configs.rebasin import Config
from experiments._rebasin.trained import Form, Trained
from wsljax.symmetry import Spec
from wsljax.understanding.matching import (
    activation_matching,
    frank_wolfe_matching,
    sinkhorn_matching,
    straight_through_matching,
    weight_matching,
)


class Method(NamedTuple):
    """An alignment of two networks.

    Attributes:
        find: `find(trained, form, a, b, key)` gives an element of the group, or something that has one;
            None: nothing is done.
        form: what the networks are written as, see `Trained.form`.
    """

    find: Callable[[Trained, Form, Any, Any, jax.Array], Any] | None
    form: str = "plain"


def align(trained: Trained, name: str, a: Any, b: Any, key: jax.Array) -> tuple[Form, Any, Any]:
    """Both networks in the form of the method, the second aligned to the first.

    Raises:
        ValueError: an unknown method.
    """
    method = method_of(name)
    form = trained.form(method.form)
    a, b = form.bring(a), form.bring(b)
    if method.find is None:
        return form, a, b
    found = method.find(trained, form, a, b, key)
    element = getattr(found, "element", found)
    return form, a, act(form.spec, element, b)


@partial(jax.jit, static_argnums=0)
def act(spec: Spec, element: Any, params: Any) -> Any:
    """`spec.act`, compiled once for all networks of a spec."""
    return spec.act(element, params)


def method_of(name: str) -> Method:
    """A method by name."""
    if name not in METHODS:
        raise ValueError(f"method {name!r}: there are {', '.join(METHODS)}.")
    return METHODS[name]


def by_weights(trained: Trained, form: Form, a: Any, b: Any, key: jax.Array) -> Any:
    """Weight matching over all that the form's symmetry has."""
    return weight_matching(a, b, form.spec, key=key, restarts=trained.config.restarts)


def _by_activations(trained: Trained, form: Form, a: Any, b: Any, key: jax.Array) -> Any:
    x = trained.train[0][: trained.config.matching]
    size = min(trained.config.chunk, len(x))
    batches = [(x[i : i + size],) for i in range(0, len(x) - size + 1, size)]
    return activation_matching(form.fn, a, b, form.spec, batches)


def _straight_through(trained: Trained, form: Form, a: Any, b: Any, key: jax.Array) -> Any:
    batches = _batches(trained, key, trained.config)
    return straight_through_matching(trained.loss, a, b, form.spec, batches, key=key)


def _sinkhorn(trained: Trained, form: Form, a: Any, b: Any, key: jax.Array) -> Any:
    steps = [()] * (5 * trained.config.learning)
    return sinkhorn_matching(a, b, form.spec, steps, key=key, optimiser=optax.adam(0.1))


def _frank_wolfe(trained: Trained, form: Form, a: Any, b: Any, key: jax.Array) -> Any:
    return frank_wolfe_matching(a, b, form.spec, key=key)


def _batches(trained: Trained, key: jax.Array, config: Config) -> list[tuple[jax.Array, jax.Array]]:
    x, y = trained.train
    keys = jax.random.split(key, config.learning)
    drawn = [jax.random.randint(k, (min(500, len(x)),), 0, len(x)) for k in keys]
    return [(jnp.take(x, rows, 0), jnp.take(y, rows, 0)) for rows in drawn]


METHODS = {
    "not aligned": Method(None),
    "weight matching": Method(by_weights),
    "activation matching": Method(_by_activations),
    "straight-through": Method(_straight_through),
    "Sinkhorn": Method(_sinkhorn),
    "Frank-Wolfe": Method(_frank_wolfe),
    "whole group": Method(by_weights, "group"),
    "norms folded, not aligned": Method(None, "folded"),
    "norms folded, weight matching": Method(by_weights, "folded"),
    "norms folded, whole group": Method(by_weights, "folded group"),
}
