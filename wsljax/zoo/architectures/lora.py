"""Low-rank adapters of a network that stays as it is (Hu 2022)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import key_path_str
from wsljax.zoo.architecture import Architecture, register_architecture
from wsljax.zoo.architectures.common import in_one_draw, normal
from wsljax.zoo.function import Function


def lora_function(
    base: Function,
    params: Any,
    *,
    rank: int = 2,
    alpha: float | None = None,
    targets: str = "kernel",
) -> Function:
    """The function of adapters: the base and its weights are settings, and stay fixed.

    Args:
        base: what the adapted network computes.
        params: its weights, arrays of one dtype.
        rank: of the adapters.
        alpha: adapters count `alpha / rank`; default: `rank`.
        targets: a regular expression; leaves of two axes or more whose path it is found in are
            adapted. A kernel `(..., in, out)` is a matrix with its last axis as columns.

    Returns:
        A `Function` whose params are `{path of a kernel: {"down": (in, rank), "up": (rank, out)}}`;
        it starts as the base (`up` is zero).

    Raises:
        ValueError: no leaf is adapted, or weights of several dtypes.

    Example:
        >>> base = Function("mlp", {"widths": (4, 8, 2)})
        >>> weights = base.init({}, key=jax.random.key(0))
        >>> adapted = lora_function(base, weights, rank=1)
        >>> adapters = adapted.init({}, key=jax.random.key(1))
        >>> sorted(adapters), adapters["dense_0/kernel"]["down"].shape
        (['dense_0/kernel', 'dense_1/kernel'], (4, 1))
        >>> x = jnp.ones((3, 4))
        >>> bool(jnp.all(adapted.apply(adapters, x) == base.apply(weights, x)))
        True
    """
    leaves = jax.tree.leaves(params)
    dtypes = {str(np.asarray(leaf).dtype) for leaf in leaves}
    if len(dtypes) != 1:
        raise ValueError(f"the base has weights of dtypes {sorted(dtypes)}; give it one.")
    flat = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
    return Function(
        "lora",
        {
            "base": base.to_json(),
            "weights": base64.b64encode(flat.tobytes()).decode(),
            "dtype": dtypes.pop(),
            "rank": rank,
            "alpha": float(rank if alpha is None else alpha),
            "targets": targets,
        },
    )


@register_architecture("lora")
def lora(
    base: Mapping[str, Any],
    weights: str,
    dtype: str,
    rank: int,
    alpha: float,
    targets: str,
) -> Architecture:
    """See `lora_function`, which makes these settings.

    Raises:
        ValueError: nothing is adapted, or weights that are not those of the base.
    """
    inner = Function.from_json(base)
    shapes = jax.eval_shape(lambda key: inner.init({}, key=key), jax.random.key(0))
    flat = np.frombuffer(base64.b64decode(weights), jnp.dtype(dtype))
    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
    ends = np.cumsum([leaf.size for _, leaf in paths])
    if ends[-1] != flat.size:
        raise ValueError(f"the base {inner!r} has {ends[-1]} weights; {flat.size} were given.")
    pieces = np.split(flat, ends[:-1])
    fixed = {
        key_path_str(path): piece.reshape(leaf.shape)
        for (path, leaf), piece in zip(paths, pieces, strict=True)
    }
    adapted = [n for n, w in fixed.items() if w.ndim >= 2 and re.search(targets, n)]
    if not adapted or rank < 1:
        raise ValueError(f"rank {rank}, targets {targets!r}: nothing to adapt in {sorted(fixed)}.")

    def init(row, *, key):
        def adapter(draw, size, out):
            scale = jnp.asarray(row.get("init_scale", 1.0) / np.sqrt(size), jnp.float32)
            return {"down": scale * normal(draw((size, rank))), "up": jnp.zeros((rank, out))}

        def make(draw):
            sizes = {name: fixed[name].shape[-1] for name in adapted}
            return {n: adapter(draw, fixed[n].size // out, out) for n, out in sizes.items()}

        return in_one_draw(key, make)

    def apply(params, x, row, key):
        leaves = []
        for name, weight in fixed.items():
            leaf = jnp.asarray(weight)
            if name in adapted:
                change = params[name]["down"] @ params[name]["up"] * (alpha / rank)
                leaf = leaf + change.reshape(leaf.shape).astype(leaf.dtype)
            leaves.append(leaf)
        return inner.apply(jax.tree.unflatten(structure, leaves), x, row, key=key)

    return Architecture(init, apply, inner.input_shape, inner.reads, inner.input_dtype)
