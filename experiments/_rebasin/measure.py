"""What is measured of the networks of one seed: lines, curves and merges."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._rebasin.align import act, align, by_weights
from experiments._rebasin.trained import MEASURES, Form, Trained
from wsljax.understanding.connectivity import (
    average,
    barrier,
    bezier,
    chain_length,
    fit_curve,
    fit_geodesic,
    merge_many,
    polygonal,
    repair,
    reset_statistics,
)
from wsljax.understanding.matching.cycle_consistent import cycle_consistent_matching

REPAIRS = ("REPAIR", "reset", "reset, REPAIR")


def lines(trained: Trained, members: Sequence[Any], key: jax.Array) -> dict[str, Any]:
    """Barriers between the first two networks by every method, and the curves.

    Returns:
        `scores`: for every method, `method / measure barrier` and `method / measure midpoint`; `ends / measure`,
        the mean of both networks; `curves`: of each line the `t` and all measures.
    """
    scores, curves = {}, {}
    a, b = members[:2]
    for name in trained.row.methods:
        start = time.perf_counter()
        form, first, second = jax.block_until_ready(align(trained, name, a, b, key))
        scores[f"{name} / seconds"] = time.perf_counter() - start
        if name == trained.row.methods[0]:
            scores |= _ends(trained, form, (first, second))
        for repaired in ("", *trained.row.repairs):
            points = trained.config.repaired_points if repaired else trained.config.points
            found = barrier(
                trained.measure(form.fn), first, second, *trained.measured, points=points,
                higher=MEASURES, adjust=along(trained, form, repaired), at_once=1,
            )  # fmt: skip
            place = f"{name}, {repaired}" if repaired else name
            scores |= _of_path(place, found)
            curves[place] = _rounded(found)
    return {"scores": scores, "curves": curves}


def fitted(trained: Trained, members: Sequence[Any], key: jax.Array) -> dict[str, Any]:
    """Likewise for quadratic Bezier curves and geodesics, between the ends as they are and aligned ones."""
    config, (x, y) = trained.config, trained.train
    scores, curves = {}, {}
    bend, chain, length = _fits(trained)
    for name in ("not aligned", "weight matching"):
        form, a, b = align(trained, name, *members[:2], key)
        value = trained.measure(form.fn)
        few = x[: config.measured]
        for kind, path, points in (
            ("Bezier", bezier, bend(a, b, x, y, key=key)),
            ("geodesic", polygonal, chain(a, b, x, key=key)),
        ):
            place = f"{kind}, {name}"
            found = barrier(
                value, a, b, *trained.measured, path=path, bends=points[1:-1],
                points=config.points, higher=MEASURES, at_once=1,
            )  # fmt: skip
            scores |= _of_path(place, found)
            curves[place] = _rounded(found)
            if kind == "geodesic":
                shares = np.linspace(0, 1, config.bends + 2)
                straight = tuple(average((a, b), (1 - t, t)) for t in shares)
                scores[f"{place} / length"] = float(length(points, few))
                scores[f"line, {name} / length"] = float(length(straight, few))
    return {"scores": scores, "curves": curves}


def merges(trained: Trained, members: Sequence[Any], key: jax.Array) -> dict[str, Any]:
    """The average of all networks, as they are or aligned in several ways, repaired or not."""
    form = trained.form("plain")
    match = lambda reference, network, spec, *, key: by_weights(  # noqa: E731
        trained, form, reference, network, key
    )
    to_first = [members[0]]
    for i, other in enumerate(members[1:]):
        to_first.append(align(trained, "weight matching", members[0], other, _fold(key, i))[2])
    groups = {
        "not aligned": list(members),
        "each to the first": to_first,
        "MergeMany": list(merge_many(members, form.spec, match, key=key).members),
    }
    together = cycle_consistent_matching(members, form.spec, key=key)
    groups["cycle-consistent"] = [act(form.spec, together.of(i), p) for i, p in enumerate(members)]
    count, scores = len(members), {}
    for name, group in groups.items():
        middle = average(group)
        for repaired in ("", *trained.row.repairs):
            adjust = along(trained, form, repaired)
            share = jnp.full(count, 1 / count)
            params = middle if adjust is None else _adjusted(adjust, middle, tuple(group), share)
            place = f"{count} merged, {name}" + (f", {repaired}" if repaired else "")
            scores |= _values(trained, form, place, params)
    return {"scores": scores | _ends(trained, form, members)}


def along(trained: Trained, form: Form, repaired: str) -> Callable[..., Any] | None:
    """What is done to a network between others: `adjust(params, ends, t)`, or None.

    `t` is where it is on a line of two, or the shares of all.

    Raises:
        ValueError: an unknown repair.
    """
    if not repaired:
        return None
    if repaired not in REPAIRS:
        raise ValueError(f"repair {repaired!r}: there are {', '.join(REPAIRS)}.")
    found = trained.adjustments.get((form.fn, repaired))
    if found is not None:
        return found
    x, chunk = trained.statistics, trained.statistics_chunk

    def adjust(params: Any, ends: Sequence[Any], t: jax.Array) -> Any:
        share = jnp.stack([1 - t, t]) if jnp.ndim(t) == 0 else t
        if "reset" in repaired:
            params = reset_statistics(form.fn, params, x, chunk=chunk).params
        if "REPAIR" in repaired:
            params = repair(form.fn, params, ends, x, weights=share, chunk=chunk).params
        return params

    trained.adjustments[form.fn, repaired] = adjust
    return adjust


@eqx.filter_jit
def _adjusted(adjust: Callable, params: Any, ends: tuple, share: jax.Array) -> Any:
    return adjust(params, ends, share)


def _fits(trained: Trained) -> tuple[Any, ...]:
    """The fits of a curve and of a geodesic, and the length of a chain, compiled once for a row."""
    if not trained.fits:
        config, row = trained.config, trained.row
        optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, config.curve_steps))
        usual = {"optimiser": optimiser, "steps": config.curve_steps, "batch_size": row.batch}

        def bend(a, b, x, y, *, key):
            return fit_curve(trained.loss, a, b, x, y, key=key, **usual).points

        def chain(a, b, x, *, key):
            fn = trained.network.apply
            return fit_geodesic(fn, a, b, x, bends=config.bends, key=key, **usual).points

        length = partial(chain_length, trained.network.apply)
        trained.fits = (jax.jit(bend), jax.jit(chain), jax.jit(lambda p, x: length(tuple(p), x)))
    return trained.fits


def _fold(key: jax.Array, i: int) -> jax.Array:
    return jax.random.fold_in(key, i)


def _of_path(place: str, found: Any) -> dict[str, float]:
    """Barriers, and the values in the middle."""
    middle = len(found.t) // 2
    scores = {f"{place} / {m} barrier": float(v) for m, v in found.barrier.items()}
    return scores | {f"{place} / {m} midpoint": float(v[middle]) for m, v in found.curve.items()}


def _values(trained: Trained, form: Form, place: str, params: Any) -> dict[str, float]:
    found = _measured(trained.measure(form.fn), params, trained.measured)
    return {f"{place} / {name}": float(value) for name, value in found.items()}


def _ends(trained: Trained, form: Form, members: Sequence[Any]) -> dict[str, float]:
    each = [_values(trained, form, "ends", p) for p in members]
    return {name: float(np.mean([e[name] for e in each])) for name in each[0]}


@eqx.filter_jit
def _measured(value: Callable, params: Any, data: tuple) -> dict[str, jax.Array]:
    return value(params, *data)


def _rounded(found: Any) -> dict[str, list[float]]:
    out = {"t": np.asarray(found.t).tolist()}
    return out | {name: np.round(np.asarray(v), 5).tolist() for name, v in found.curve.items()}
