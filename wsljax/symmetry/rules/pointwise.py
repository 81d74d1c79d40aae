"""Rules for pointwise functions, and for the integers that name coordinates (iota, comparisons)."""

from __future__ import annotations

import numpy as np

from ..inference.values import Entry, Factor, Index, Link, Variable, View, align, size_of
from ..inference.walk import KNOWS_COORDINATES, POINTWISE_NAMES, RULES, Walk, register_rule

POINTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2
expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p
logistic lt lt_to max min mul ne neg nextafter not or polygamma population_count pow random_gamma_grad
real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
name sharding_constraint layout_constraint mesh_cast reshard pvary pcast preferred_element_type
""".split()

KEEPS_INDEX = {"convert_element_type", "copy", "copy_p", "stop_gradient", "sharding_constraint"}


def _pointwise(walk: Walk, eqn, *views: View) -> View:
    counted = [v for v in views if v.index is not None]
    if counted:  # rare
        handled = _on_indices(walk, eqn, eqn.primitive.name, views)
        if handled is not None:
            return handled
        for v in counted:
            walk.spend(v, ("coordinates are read as numbers", eqn))
    out = walk.elementwise(views, ("axes that do not fit", eqn))
    out.index = out.const = out.key = None
    out.columns = ()
    return out


def _on_indices(walk: Walk, eqn, name: str, views) -> View | None:
    """Pointwise functions under which values stay coordinates, or compare them."""
    if name in KEEPS_INDEX:
        if eqn.outvars[0].aval.dtype.kind in "iu":
            return View(views[0].axes, views[0].hidden, views[0].index)
        return None
    others = [v for v in views if v.index is None]
    shape_of = next(v for v in views if v.index is not None)
    if len(views) == 2 and len(others) == 1 and others[0].const is not None:
        bound = others[0].const
        low = views[0] is shape_of
        if name in ("lt", "ge") and low and np.all(bound <= 0) and not shape_of.index.spoilt:
            return _known(eqn, name == "ge")
        if name == "add" and np.all(bound == 0):
            return View(shape_of.axes, shape_of.hidden, shape_of.index)
        if name in ("add", "sub"):
            return View(
                shape_of.axes, shape_of.hidden, Index(shape_of.index.items, True, walk.fresh())
            )
        return None
    if name == "select_n" and views[0].const is not None:
        which = np.unique(views[0].const)
        if len(which) == 1:
            return views[1 + int(which[0])]
    if name in ("eq", "ne") and not others and not any(v.index.spoilt for v in views):
        return _compare(walk, eqn, *views)
    return None


def _known(eqn, value: bool) -> View:
    shape = eqn.outvars[0].aval.shape
    return View(
        [(n,) if n > 1 else () for n in shape],
        const=np.full(shape, value) if len(shape) < 2 else np.asarray(value),
    )


def _compare(walk: Walk, eqn, a: View, b: View) -> View | None:
    """``a == b`` for two values that count coordinates: true at matching coordinates of both sets."""
    assert a.index is not None and b.index is not None
    if not same_coordinates(walk, a.index.items, b.index.items):
        return None
    return walk.elementwise(
        [View(a.axes, a.hidden), View(b.axes, b.hidden)], ("axes that do not fit", eqn)
    )


def same_coordinates(walk: Walk, a, b) -> bool:
    """Tie the index sets of two values' elements; False if they do not fit together."""
    if [size_of(i) for i in a] != [size_of(i) for i in b] and np.prod(
        [size_of(i) for i in a]
    ) != np.prod([size_of(i) for i in b]):
        return False
    slots = align([a, b])
    if slots is None:
        return False
    variables = tuple(
        Variable(s[0].size, (Entry(0, (s[0],)), Entry(1, (s[1],))))
        for s in slots
        if isinstance(s[0], Factor) and isinstance(s[1], Factor)
    )
    walk.links.append(Link(2, variables))
    return True


for _name in POINTWISE:
    RULES[_name] = _pointwise
    KNOWS_COORDINATES.add(_name)
    POINTWISE_NAMES.add(_name)
KNOWS_COORDINATES |= {"optimization_barrier"}


@register_rule("iota")
def _iota(walk: Walk, eqn, *views: View) -> View:
    shape, k = eqn.params["shape"], eqn.params["dimension"]
    axes: list = [(n,) if n > 1 else () for n in shape]
    view = walk.array([shape[k]])
    axes[k] = view.axes[0]
    integer = np.dtype(eqn.outvars[0].aval.dtype).kind in "iu"
    if not integer:
        walk.pin_items(axes[k], ("counted as numbers", eqn))
    return View(axes, index=Index(axes[k], token=walk.fresh()) if integer else None)


@register_rule("optimization_barrier")
def _barrier(walk: Walk, eqn, *views: View) -> list[View]:
    return list(views)


def _random(walk: Walk, eqn, *views: View) -> list[View]:
    reason = ("random numbers differ along it", eqn)
    for v in views:
        walk.pin_view(v, reason)
    return [walk.fixed(v.aval.shape, reason) for v in eqn.outvars]


RANDOM = """
random_bits random_clone random_fold_in random_gamma random_seed random_split random_unwrap random_wrap
rng_bit_generator rng_uniform threefry2x32
""".split()
for _name in RANDOM:
    RULES[_name] = _random


# Rarely met, or new in later versions of jax.
RARE = "log2 mulhi one_minus_square relayout with_memory_space_constraint xla_metadata_value"
for _name in RARE.split():
    RULES[_name] = _pointwise
    KNOWS_COORDINATES.add(_name)
    POINTWISE_NAMES.add(_name)
KEEPS_INDEX |= {"relayout", "with_memory_space_constraint", "xla_metadata_value"}
for _name in ("device_put", "shard_alike"):  # each operand as it is
    RULES[_name] = _barrier
    KNOWS_COORDINATES.add(_name)
for _name in ("iota_2x32_shape", "philox2x32", "philox4x32", "threefry4x32"):
    RULES[_name] = _random


@register_rule("bitcast_convert_type")
def _bitcast(walk: Walk, eqn, x: View) -> View:
    """Pointwise, but for a last axis that holds the parts of a wider number."""
    reason = ("bits of one number", eqn)
    words = [f"i{k}" for k in range(len(x.axes))]
    shape = eqn.outvars[0].aval.shape
    if len(shape) < len(words):
        walk.pin(x, -1, reason)
        return walk.einsum([x], [words], words[:-1])
    if len(shape) > len(words):
        return walk.einsum([x], [words], [*words, "bits"], {"bits": shape[-1]}, reason)
    return walk.elementwise([x])
