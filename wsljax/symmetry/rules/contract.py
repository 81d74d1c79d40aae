"""Rules that contract or reduce: sums and maxima, dot products, convolutions, pooling windows."""

from __future__ import annotations

from ..inference.values import View
from ..inference.walk import RULES, Walk, register_rule


def _names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{k}" for k in range(n)]


def _reduce(walk: Walk, eqn, x: View, *rest: View) -> View:
    gone = {d % len(x.axes) for d in eqn.params["axes"]}
    words = _names("i", len(x.axes))
    if not any(x.axes[d] for d in gone) and not x.index:
        return View([a for k, a in enumerate(x.axes) if k not in gone], x.hidden)
    return walk.einsum([x], [words], [w for k, w in enumerate(words) if k not in gone])


for _name in "sum max min prod and or xor".split():
    RULES[f"reduce_{_name}"] = _reduce


def _across(walk: Walk, eqn, *views: View) -> list[View]:
    """Reductions across a mapped axis, after ``vmap`` has made it an axis of the array."""
    out = []
    for x, var in zip(views, eqn.outvars, strict=True):
        gone = {d for d in eqn.params["axes"] if isinstance(d, int)}
        words = _names("i", len(x.axes))
        if eqn.params.get("axis_index_groups") is not None or len(x.axes) - len(gone) != len(
            var.aval.shape
        ):
            walk.pin_view(x, ("reduced across devices", eqn))
            out.append(walk.fixed(var.aval.shape, ("reduced across devices", eqn)))
            continue
        out.append(walk.einsum([x], [words], [w for k, w in enumerate(words) if k not in gone]))
    return out


for _name in "psum pmax pmin".split():
    RULES[_name] = _across


@register_rule("reduce")
def _general_reduce(walk: Walk, eqn, *views: View) -> list[View]:
    n = len(views) // 2
    for v in views[:n]:
        for d in eqn.params["dimensions"]:
            walk.pin(v, d, ("reduced by a function that need not commute", eqn))
    gone = set(eqn.params["dimensions"])
    joint = walk.elementwise(views[:n])
    words = _names("i", len(joint.axes))
    one = walk.einsum([joint], [words], [w for k, w in enumerate(words) if k not in gone])
    return [one] * n


@register_rule("dot_general")
def _dot_general(walk: Walk, eqn, x: View, y: View) -> View:
    (cx, cy), (bx, by) = eqn.params["dimension_numbers"]
    wx, wy = _names("x", len(x.axes)), _names("y", len(y.axes))
    for k, (a, b) in enumerate(zip(cx, cy, strict=True)):
        wx[a] = wy[b] = f"c{k}"
    for k, (a, b) in enumerate(zip(bx, by, strict=True)):
        wx[a] = wy[b] = f"b{k}"
    out = [f"b{k}" for k in range(len(bx))]
    out += [w for w in wx if w[0] == "x"] + [w for w in wy if w[0] == "y"]
    return walk.einsum([x, y], [wx, wy], out, reason=("contracted with axes that do not fit", eqn))


@register_rule("conv_general_dilated")
def _conv(walk: Walk, eqn, x: View, w: View) -> View:
    p = eqn.params
    numbers = p["dimension_numbers"]
    lhs, rhs, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    reason = ("read at positions of a convolution", eqn)
    xs, ws, os = x.shape(), w.shape(), eqn.outvars[0].aval.shape
    groups, batches = p["feature_group_count"], p["batch_group_count"]
    wx, ww, wo = _names("x", len(xs)), _names("w", len(ws)), _names("o", len(os))
    sizes = {o: n for o, n in zip(wo, os, strict=True)}
    wx[lhs[0]] = wo[out[0]] = "batch"
    if batches > 1:
        walk.pin(x, lhs[0], reason)
        walk.pin(w, rhs[0], reason)
        wo[out[0]], wo[out[1]] = "o_batch", "o_feature"
        sizes |= {"o_batch": os[out[0]], "o_feature": os[out[1]]}
    else:
        wo[out[1]] = ww[rhs[0]] = "features"
    wx[lhs[1]] = ww[rhs[1]] = "channels"
    for k, (a, b, c) in enumerate(zip(lhs[2:], rhs[2:], out[2:], strict=True)):
        trivial = (
            ws[b] == 1
            and p["window_strides"][k] == 1
            and tuple(p["padding"][k]) == (0, 0)
            and p["lhs_dilation"][k] == 1
        )
        if trivial:
            wx[a] = wo[c] = f"space{k}"
        else:
            walk.pin(x, a, reason)
            walk.pin(w, b, reason)
    if groups == 1:
        return walk.einsum([x, w], [wx, ww], wo, sizes, reason)
    x, wx = _open(
        walk, x, wx, lhs[1], (groups, xs[lhs[1]] // groups), ("group", "channels"), reason
    )
    w, ww = _open(
        walk, w, ww, rhs[0], (groups, ws[rhs[0]] // groups), ("group", "features"), reason
    )
    wide = list(wo)
    wide[out[1] : out[1] + 1] = ["group", "features"]
    y = walk.einsum([x, w], [wx, ww], wide, sizes, reason)
    k = out[1]
    return y.but([*y.axes[:k], y.axes[k] + y.axes[k + 1], *y.axes[k + 2 :]])


def _open(
    walk: Walk, x: View, words: list[str], axis: int, sizes, names, reason
) -> tuple[View, list[str]]:
    """An axis seen as a product."""
    shape = x.shape()
    x = walk.reshape(x, (*shape[:axis], *sizes, *shape[axis + 1 :]), reason)
    return x, [*words[:axis], *names, *words[axis + 1 :]]


def _windows(walk: Walk, eqn, *views: View) -> View | list[View]:
    p = eqn.params
    reason = ("pooled in windows", eqn)
    n = len(eqn.outvars)
    x = views[0] if n == 1 else walk.elementwise(views[:n])
    window = p["window_dimensions"]
    words, out, sizes = _names("i", len(window)), _names("i", len(window)), {}
    ones = (1,) * len(window)
    base, dilation = p.get("base_dilation") or ones, p.get("window_dilation") or ones
    strides = p["window_strides"] or ones
    for k, size in enumerate(window):
        if (
            size == 1
            and strides[k] == 1
            and tuple(p["padding"][k]) == (0, 0)
            and base[k] == 1
            and dilation[k] >= 1
        ):
            continue
        walk.pin(x, k, reason)
        out[k] = f"new{k}"
        sizes[out[k]] = eqn.outvars[0].aval.shape[k]
    y = walk.einsum([x], [words], out, sizes, reason)
    return y if n == 1 else [y] * n


for _name in "reduce_window reduce_window_sum reduce_window_max reduce_window_min".split():
    RULES[_name] = _windows


def _selected(walk: Walk, eqn, x: View, operand: View) -> View:
    """Gradients of maximum pooling: along windows nothing moves, other axes are shared."""
    p = eqn.params
    reason = ("pooled in windows", eqn)
    wx, wo, out, sizes = _names("i", len(x.axes)), _names("i", len(x.axes)), [], {}
    for k, (size, stride, padding) in enumerate(
        zip(p["window_dimensions"], p["window_strides"], p["padding"], strict=True)
    ):
        if size == 1 and stride == 1 and tuple(padding) == (0, 0):
            out.append(f"i{k}")
            continue
        walk.pin(x, k, reason)
        walk.pin(operand, k, reason)
        wx[k], wo[k] = f"x{k}", f"o{k}"
        out.append(f"new{k}")
        sizes[f"new{k}"] = eqn.outvars[0].aval.shape[k]
    return walk.einsum([x, operand], [wx, wo], out, sizes, reason)


RULES["select_and_scatter_add"] = RULES["select_and_gather_add"] = _selected


@register_rule("ragged_dot_general")
def _ragged_dot(walk: Walk, eqn, x: View, y: View, sizes: View, *offset: View) -> View:
    """Consecutive rows of ``x``, each run of them with a matrix of its own."""
    d = eqn.params["ragged_dot_dimension_numbers"]
    reason = ("rows and the matrices that their runs meet", eqn)
    (cx, cy), (bx, by) = d.dot_dimension_numbers
    wx, wy = _names("x", len(x.axes)), _names("y", len(y.axes))
    for k, (a, b) in enumerate(zip(cx, cy, strict=True)):
        wx[a] = wy[b] = f"c{k}"
    for k, (a, b) in enumerate(zip(bx, by, strict=True)):
        wx[a] = wy[b] = f"b{k}"
    for view in (sizes, *offset):
        walk.pin_view(view, reason)
    for k in d.lhs_ragged_dimensions:
        walk.pin(x, k, reason)
    for k in d.rhs_group_dimensions:
        walk.pin(y, k, reason)
    groups = {wy[k] for k in d.rhs_group_dimensions}
    out = [f"b{k}" for k in range(len(bx))]
    out += [w for w in wx if w[0] == "x"] + [w for w in wy if w[0] == "y" and w not in groups]
    shape = eqn.outvars[0].aval.shape
    if len(shape) > len(out):  # one result for each run of contracted rows
        return walk.einsum([x, y], [wx, wy], ["run", *out], {"run": shape[0]}, reason)
    if len(groups) == 1:  # the matrix that each row meets, then a product row by row
        (group,), (row,) = groups, [wx[k] for k in d.lhs_ragged_dimensions]
        rows = View([x.axes[k] for k in d.lhs_ragged_dimensions])
        met = [w if w != group else row for w in wy]
        choice = (group, ("runs", sizes), (row,))
        y, wy = walk.einsum([y, rows], [wy, [row]], met, reason=reason, choice=choice), met
    return walk.einsum([x, y], [wx, wy], out, reason=reason)
