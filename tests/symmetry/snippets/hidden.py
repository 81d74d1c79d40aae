"""Functions of the units of one hidden layer."""
# ruff: noqa: E501, E731

import jax
import jax.numpy as jnp
from jax import lax

from .registry import M, S

M("batch_mix", 6, 6, lambda h: h.reshape(14, 3)[::-1].reshape(7, 6), None)
M("batch_mix2", 6, 3, lambda h: jnp.tanh(h.reshape(14, 3))[:7] + h.reshape(7, 2, 3).sum(1), None)
M("outer_sum", 5, 5, lambda h: jnp.sin(h[:, :, None] - h[:, None, :]).sum(1), S(5))
M("diag_offset", 5, 4, lambda h: jnp.stack([jnp.diagonal(jnp.outer(r, r), 1) for r in h]), None)
M(
    "conv_hidden",
    6,
    6,
    lambda h: lax.conv_general_dilated(h[:, None], jnp.array([[[1.0, 2.0, 3.0]]]), (1,), "SAME")[
        :, 0
    ],
    0,
)
M("dup_gather", 4, 3, lambda h: jnp.sin(h[:, jnp.array([0, 0, 1])]), None)
M("scan_hidden", 5, 5, lambda h: lax.scan(lambda c, x: (0.5 * c + x, c), jnp.zeros(7), h.T)[1].T, 0)
M(
    "scan_hidden_sum",
    5,
    1,
    lambda h: lax.scan(lambda c, x: (c + x**2, None), jnp.zeros(7), h.T)[0][:, None],
    None,
)
M("map_hidden", 5, 5, lambda h: lax.map(lambda x: x**2 + jnp.sin(x).sum(), h.T).T, S(5))
M("compare_flip", 6, 6, lambda h: jnp.where(h > h[:, ::-1], h, 0.0), None)
M("segments", 5, 3, lambda h: jax.ops.segment_sum(h.T, jnp.array([0, 0, 1, 1, 2]), 3).T, None)
M("bump_first", 5, 5, lambda h: jnp.sin(h.at[:, 0].add(1.0)), S(4))
M("bump_set", 5, 5, lambda h: h.at[:, 1:3].set(0.3) * 2 + h, None)
M("weights_arange", 5, 1, lambda h: jnp.tanh(h * 2) @ jnp.arange(5.0)[:, None], 0)
M("concat_roll", 4, 8, lambda h: jnp.concatenate([h, jnp.roll(h, 1, -1)], -1), S(4))
M(
    "fori_roll",
    4,
    4,
    lambda h: lax.fori_loop(0, 3, lambda i, c: jnp.roll(c, 1, -1) * 1.1 + h * 0, h),
    None,
)
M("fori_flip", 4, 4, lambda h: lax.fori_loop(0, 3, lambda i, c: c[:, ::-1] * 1.1, h), None)
M(
    "fori_transpose",
    16,
    16,
    lambda h: lax.fori_loop(
        0, 3, lambda i, c: jnp.sin(c.transpose(0, 2, 1)), h.reshape(7, 4, 4)
    ).reshape(7, 16),
    None,
)
M(
    "swap_carry",
    4,
    4,
    lambda h: lax.fori_loop(0, 3, lambda i, c: (c[1], jnp.sin(c[0])), (h, h**2))[0],
    S(4),
)
M("cond_flip", 4, 4, lambda h: lax.cond(h.sum() > 0, lambda h: h[:, ::-1], lambda h: h, h), None)
M(
    "kron_eye",
    6,
    6,
    lambda h: jnp.sin(h @ jnp.kron(jnp.eye(2), jnp.arange(9.0).reshape(3, 3) ** 2)),
    None,
)
M("sort_payload", 5, 5, lambda h: lax.sort((h, jnp.sin(3 * h)), num_keys=1)[1], S(5))
M("sort_payload2", 5, 5, lambda h: lax.sort((h[:, ::-1], h), num_keys=1)[1], None)
M("argmax_shift_lookup", 5, 5, lambda h: jnp.eye(5)[(jnp.argmax(h, -1) + 1) % 5], 0)
M("argmax_rev_lookup", 5, 5, lambda h: jnp.eye(5)[4 - jnp.argmax(h, -1)], None)
M("onehot_argmax", 5, 5, lambda h: jax.nn.one_hot(jnp.argmax(h, -1), 5) * h, S(5))
M("onehot_arange", 5, 5, lambda h: jax.nn.one_hot(jnp.argmax(h, -1), 5) * h * jnp.arange(1, 6.0), 0)
M(
    "two_argmax_cmp",
    5,
    1,
    lambda h: (jnp.argmax(h, -1) == jnp.argmin(h**2, -1))[:, None] * h.sum(-1, keepdims=True),
    S(5),
)
M("topk_idx_number", 5, 2, lambda h: lax.top_k(h, 2)[1].astype(h.dtype), 0)
M("floor_index", 5, 5, lambda h: jnp.arange(10.0)[jnp.floor(4 * h + 5).astype(int)] * h, S(5))
M("cumsum_rev", 5, 5, lambda h: jnp.cumsum(h[:, ::-1], -1), 0)
M("logcumsumexp", 5, 5, lambda h: lax.cumlogsumexp(h, axis=1), 0)
M("batch_cummax", 5, 5, lambda h: lax.cummax(h, axis=0), S(5))
M(
    "scatter_positions",
    4,
    6,
    lambda h: jnp.zeros((7, 6)).at[:, jnp.array([0, 2, 3, 5])].set(h),
    None,
)
M(
    "dyn_slice_traced",
    6,
    3,
    lambda h: lax.dynamic_slice_in_dim(h, jnp.argmax(h[:, 0]) % 4, 3, 1),
    None,
)
M("dyn_update", 6, 6, lambda h: lax.dynamic_update_slice(jnp.sin(h), h[:, :2], (0, 2)), None)
M("take_along_input", 5, 2, lambda h: jnp.take_along_axis(h, jnp.array([[0, 3]] * 7), 1), None)
M("pad_interior", 4, 7, lambda h: lax.pad(h, 0.0, ((0, 0, 0), (0, 0, 1))), S(4, 3))
M("pad_value", 4, 6, lambda h: jnp.pad(h, ((0, 0), (0, 2)), constant_values=1.0) ** 2, None)
M("pad_edge", 4, 6, lambda h: jnp.pad(h, ((0, 0), (0, 2)), mode="edge"), None)
M("pad_wrap", 4, 8, lambda h: jnp.pad(h, ((0, 0), (0, 4)), mode="wrap"), None)
M("pad_negative", 5, 3, lambda h: lax.pad(h, 0.0, ((0, 0, 0), (-1, -1, 0))), None)
M("interleave", 4, 8, lambda h: jnp.stack([h, h**2], -1).reshape(7, 8), S(4))
M("interleave2", 4, 8, lambda h: jnp.stack([h, h**2], 1).reshape(7, 8), S(4))
M(
    "reshape_nonaligned",
    6,
    6,
    lambda h: (h.reshape(7, 2, 3) + jnp.sin(h).reshape(7, 3, 2).transpose(0, 2, 1)).reshape(7, 6),
    None,
)
M("reshape_cut", 6, 3, lambda h: h.reshape(7, 3, 2).max(-1), S(3) + 3 * S(2))
M("diff", 5, 4, lambda h: jnp.diff(h, axis=-1), 0)
M("gradient", 5, 5, lambda h: jnp.gradient(h, axis=-1), None)
M("vander", 3, 9, lambda h: jax.vmap(jnp.vander)(h).reshape(7, 9), S(3))
M("poly", 4, 1, lambda h: jax.vmap(lambda r: jnp.polyval(r, 0.7))(h)[:, None], 0)
M("einsum_rep", 4, 4, lambda h: jnp.einsum("bi,bj,ij->bj", h, h, jnp.ones((4, 4))), S(4))
M("trace_outer", 4, 1, lambda h: jnp.einsum("bi,bi->b", h, jnp.flip(h, -1))[:, None], None)
M("convolve_self", 4, 7, lambda h: jax.vmap(lambda r: jnp.convolve(r, r))(h), 0)
M("xcorr_fft", 4, 4, lambda h: jnp.fft.irfft(jnp.abs(jnp.fft.rfft(h)) ** 2, n=4), None)
M("dct_like", 4, 4, lambda h: h @ jnp.cos(jnp.arange(4)[:, None] * jnp.arange(4)[None]), None)
M("unfold", 6, 12, lambda h: jnp.stack([h[:, i : i + 4] for i in range(3)], 1).reshape(7, 12), None)
M("split3", 6, 2, lambda h: (lambda a, b, c: a * b + jnp.sin(c))(*jnp.split(h, 3, -1)), S(2))
M("split_asym", 5, 3, lambda h: jnp.concatenate([h[:, :2] * h[:, 2:4], h[:, 4:]], -1), S(2))
M("select_n", 4, 4, lambda h: lax.select_n((h > 0).astype(jnp.int32), h, h[:, ::-1]), None)
M("minmax", 4, 4, lambda h: (h - h.min(-1, keepdims=True)) / h.max(-1, keepdims=True), S(4))
M("argsort_rank", 5, 5, lambda h: jnp.argsort(jnp.argsort(h, -1), -1).astype(h.dtype), None)
M("rank_compare", 5, 5, lambda h: (h[:, :, None] > h[:, None, :]).sum(-1).astype(h.dtype) * h, S(5))
M(
    "bincount",
    5,
    4,
    lambda h: jax.vmap(
        lambda r: jnp.bincount(jnp.digitize(r, jnp.array([-0.5, 0.0, 0.5])), length=4)
    )(h).astype(h.dtype),
    None,
)
M(
    "mode_axes",
    4,
    4,
    lambda h: jnp.moveaxis(jnp.tensordot(h, jnp.ones((4, 3)), 0), 1, -1).sum((1, 2)),
    S(4),
)
M("roll_by_half", 4, 4, lambda h: h * jnp.roll(h, 2, -1), None)
M("shift_mul", 4, 4, lambda h: h * jnp.roll(h, 1, -1), None)
M("rev_parent", 6, 6, lambda h: h.reshape(7, 2, 3)[:, ::-1].reshape(7, 6), None)
M("roll_parent", 6, 6, lambda h: jnp.roll(h.reshape(7, 2, 3), 1, 1).reshape(7, 6), None)
M("gather_parent", 6, 6, lambda h: h.reshape(7, 3, 2)[:, jnp.array([2, 0, 1])].reshape(7, 6), None)
M("sort_parent", 6, 6, lambda h: jnp.sort(h.reshape(7, 3, 2), 1).reshape(7, 6), None)
M("cumsum_parent", 6, 6, lambda h: jnp.cumsum(h.reshape(7, 3, 2), 1).reshape(7, 6), None)
M(
    "shift_parent",
    6,
    6,
    lambda h: jnp.pad(h.reshape(7, 3, 2)[:, 1:], ((0, 0), (0, 1), (0, 0))).reshape(7, 6),
    None,
)
M(
    "scan_parent",
    6,
    6,
    lambda h: jnp.moveaxis(
        lax.scan(lambda c, x: (x, c), jnp.zeros((7, 2)), jnp.moveaxis(h.reshape(7, 3, 2), 1, 0))[1],
        0,
        1,
    ).reshape(7, 6),
    None,
)
M(
    "scan_parent_rev",
    6,
    6,
    lambda h: jnp.moveaxis(
        lax.scan(lambda c, x: (c, x), 0.0, jnp.moveaxis(h.reshape(7, 3, 2), 1, 0), reverse=True)[1],
        0,
        1,
    ).reshape(7, 6),
    None,
)
M(
    "conv_parent",
    6,
    6,
    lambda h: jnp.moveaxis(
        lax.conv_general_dilated(
            jnp.moveaxis(h.reshape(7, 3, 2), 2, 1).reshape(14, 1, 3),
            jnp.array([[[0.0, 0.0, 1.0]]]),
            (1,),
            "SAME",
        ).reshape(7, 2, 3),
        1,
        2,
    ).reshape(7, 6),
    None,
)
M(
    "transpose_square_parent",
    8,
    8,
    lambda h: h.reshape(7, 2, 2, 2).transpose(0, 2, 1, 3).reshape(7, 8),
    None,
)
M(
    "window_parent",
    6,
    6,
    lambda h: lax.reduce_window(
        h.reshape(7, 3, 2), -jnp.inf, lax.max, (1, 2, 1), (1, 1, 1), [(0, 0), (1, 0), (0, 0)]
    ).reshape(7, 6),
    None,
)
M("fft_parent", 6, 6, lambda h: jnp.fft.fft(h.reshape(7, 3, 2), axis=1).real.reshape(7, 6), None)
M(
    "assoc_parent",
    6,
    6,
    lambda h: lax.associative_scan(jnp.add, h.reshape(7, 3, 2), axis=1).reshape(7, 6),
    None,
)
M(
    "dynslice_parent",
    6,
    4,
    lambda h: lax.dynamic_slice_in_dim(h.reshape(7, 3, 2), 1, 2, 1).reshape(7, 4),
    None,
)
M(
    "take_input_parent",
    6,
    2,
    lambda h: jnp.take_along_axis(
        h.reshape(7, 3, 2), (jnp.arange(7) % 3)[:, None, None], 1
    ).reshape(7, 2),
    None,
)
M(
    "matmul_parent",
    6,
    6,
    lambda h: jnp.einsum(
        "bkh,kl->blh", h.reshape(7, 3, 2), jnp.arange(9.0).reshape(3, 3) ** 2
    ).reshape(7, 6),
    None,
)
M(
    "bool_parent",
    6,
    6,
    lambda h: jnp.where(
        (jnp.arange(3) > 0)[:, None], h.reshape(7, 3, 2), h.reshape(7, 3, 2)[:, ::-1]
    ).reshape(7, 6),
    None,
)
M("argsort_numbers", 5, 5, lambda h: jnp.argsort(h, -1).astype(h.dtype), None)
M(
    "argsort_sorted",
    5,
    5,
    lambda h: jnp.sort(jnp.argsort(h, -1)[:, :3], -1).astype(h.dtype) @ jnp.ones((3, 5)),
    None,
)
M("argsort_top", 5, 1, lambda h: lax.top_k(jnp.argsort(h, -1)[:, :2], 1)[0].astype(h.dtype), None)
M(
    "argsort_max",
    5,
    1,
    lambda h: jnp.max(jnp.argsort(h, -1)[:, :2], -1, keepdims=True).astype(h.dtype),
    None,
)
M(
    "argsort_cmp",
    5,
    1,
    lambda h: (jnp.argmax(h, -1) < jnp.argmin(h, -1)).astype(h.dtype)[:, None],
    None,
)
M("argmax_where", 5, 1, lambda h: jnp.where(jnp.argmax(h, -1) > 2, 1.0, 2.0)[:, None], None)
M("argmax_mod", 5, 1, lambda h: (jnp.argmax(h, -1) % 2).astype(h.dtype)[:, None], None)
M("argmax_eq3", 5, 1, lambda h: (jnp.argmax(h, -1) == 3).astype(h.dtype)[:, None], None)
