"""Functions of the units of one hidden layer: order, ranks, positions, constants."""
# ruff: noqa: E501, E731

import jax
import jax.numpy as jnp
from jax import lax

from .registry import M, S, X

M(
    "argmax_eq_iota_shift",
    5,
    5,
    lambda h: (jnp.argmax(h, -1)[:, None] == (jnp.arange(5) + 1) % 5).astype(h.dtype),
    None,
)
M("argmax_as_index_to_batch", 5, 3, lambda h: jnp.tanh(jnp.asarray(X)[jnp.argmax(h, -1)]), None)
M("argmax_clip", 5, 5, lambda h: jnp.eye(5)[jnp.clip(jnp.argmax(h, -1), 0, 3)], None)
M(
    "argmax_index_slice",
    5,
    1,
    lambda h: jnp.take_along_axis(h[:, ::-1], jnp.argmax(h, -1)[:, None], 1),
    None,
)
M(
    "argmax_index_other",
    5,
    1,
    lambda h: jnp.take_along_axis(jnp.sort(h, -1), jnp.argmax(h, -1)[:, None], 1),
    None,
)
M("argmax_bigger", 5, 6, lambda h: jax.nn.one_hot(jnp.argmax(h, -1), 6), None)
M("argmax_smaller", 5, 4, lambda h: jax.nn.one_hot(jnp.argmax(h, -1), 4), None)
M(
    "argmax_concat",
    5,
    1,
    lambda h: jnp.argmax(jnp.concatenate([h, h], -1), -1).astype(h.dtype)[:, None],
    None,
)
M(
    "argmax_concat_lookup",
    5,
    10,
    lambda h: jnp.eye(10)[jnp.argmax(jnp.concatenate([h, 0.5 * h], -1), -1)],
    None,
)
M("argmax_sliced_lookup", 5, 5, lambda h: jnp.eye(5)[jnp.argmax(h[:, 1:], -1)], None)
M("argmax_offset_lookup", 5, 5, lambda h: jnp.eye(5)[1 + jnp.argmax(h[:, 1:], -1)], None)
M(
    "argmax_flat",
    6,
    6,
    lambda h: (lambda i: jnp.eye(6)[i])(jnp.argmax(h.reshape(7, 3, 2).reshape(7, 6), -1)),
    None,
)
M("argmax_flat_div", 6, 3, lambda h: jnp.eye(3)[jnp.argmax(h, -1) // 2], None)
M(
    "argmax_unravel",
    6,
    5,
    lambda h: (lambda i: jnp.concatenate([jnp.eye(3)[i // 2], jnp.eye(2)[i % 2]], -1))(
        jnp.argmax(h, -1)
    ),
    None,
)
M(
    "topk_scatter",
    5,
    5,
    lambda h: (lambda v, i: jnp.zeros((7, 5)).at[jnp.arange(7)[:, None], i].set(v))(
        *lax.top_k(h, 2)
    ),
    None,
)
M(
    "topk_scatter_add_shift",
    5,
    5,
    lambda h: (lambda v, i: jnp.zeros((7, 5)).at[jnp.arange(7)[:, None], 4 - i].set(v))(
        *lax.top_k(h, 2)
    ),
    None,
)
M(
    "topk_first_diff",
    5,
    5,
    lambda h: (lambda v, i: jnp.eye(5)[i[:, 0]] - 2 * jnp.eye(5)[i[:, 1]])(*lax.top_k(h, 2)),
    None,
)
M(
    "scatter_argsort_inverse",
    5,
    5,
    lambda h: (lambda i: jnp.zeros((7, 5)).at[jnp.arange(7)[:, None], i].set(jnp.arange(5.0)))(
        jnp.argsort(h, -1)
    ),
    None,
)
M(
    "sort_unsort",
    5,
    5,
    lambda h: (
        lambda i: jnp.take_along_axis(
            jnp.cumsum(jnp.take_along_axis(h, i, 1), 1), jnp.argsort(i, -1), 1
        )
    )(jnp.argsort(h, -1)),
    None,
)
M(
    "searchsorted",
    5,
    5,
    lambda h: jax.vmap(lambda r: jnp.searchsorted(jnp.sort(r), r))(h).astype(h.dtype),
    None,
)
M(
    "lexsort",
    5,
    5,
    lambda h: jnp.take_along_axis(h, jax.vmap(lambda r: jnp.lexsort((r, jnp.round(r))))(h), 1),
    None,
)
M("stable_sort_key", 5, 5, lambda h: lax.sort((jnp.floor(2 * h), h), num_keys=1)[1], None)
M("stable_sort_const", 5, 5, lambda h: lax.sort((h * 0, h), num_keys=1)[1], None)
M("argmax_ties", 5, 5, lambda h: jnp.eye(5)[jnp.argmax(h > 0, -1)], None)
M("argmax_bool_number", 5, 1, lambda h: jnp.argmax(h > 0, -1).astype(h.dtype)[:, None], None)
M(
    "nonzero",
    5,
    5,
    lambda h: jax.vmap(lambda r: jnp.nonzero(r > 0, size=5, fill_value=-1)[0])(h).astype(h.dtype),
    None,
)
M(
    "compress",
    5,
    5,
    lambda h: jax.vmap(lambda r: r[jnp.nonzero(r > 0, size=5, fill_value=0)[0]])(h),
    None,
)
M("reduce_first", 5, 1, lambda h: lax.reduce(h, 0.0, lambda a, b: a + b, (1,))[:, None], None)
M(
    "reduce_noncomm",
    5,
    1,
    lambda h: lax.reduce(h, 0.0, lambda a, b: a * 0.5 + b, (1,))[:, None],
    None,
)
M("reduce_precision", 5, 5, lambda h: lax.reduce_precision(h, 8, 10), None)
M(
    "scan_xs_two",
    4,
    4,
    lambda h: (
        lax.scan(lambda c, x: (c + x[0] * x[1], x[0] - c), jnp.zeros(7), (h.T, h.T[::-1]))[1].T
    ),
    None,
)
M(
    "unique_counts",
    5,
    1,
    lambda h: jnp.sum(jnp.abs(jnp.diff(jnp.sort(h, -1), axis=-1)), -1, keepdims=True),
    None,
)
M(
    "sort_pair_parent",
    6,
    6,
    lambda h: lax.sort(
        (h.reshape(7, 3, 2), jnp.sin(3 * h).reshape(7, 3, 2)), dimension=1, num_keys=1
    )[1].reshape(7, 6),
    None,
)
M(
    "argmax_parent_take",
    6,
    2,
    lambda h: (lambda z: jnp.take_along_axis(z, jnp.argmax(z.sum(-1), 1)[:, None, None], 1)[:, 0])(
        h.reshape(7, 3, 2)
    ),
    None,
)
M(
    "topk_parent",
    6,
    4,
    lambda h: (
        lambda z: jnp.take_along_axis(z, lax.top_k(z.sum(-1), 2)[1][:, :, None], 1).reshape(7, 4)
    )(h.reshape(7, 3, 2)),
    None,
)
M(
    "topk_parent_direct",
    6,
    4,
    lambda h: jnp.moveaxis(lax.top_k(jnp.moveaxis(h.reshape(7, 3, 2), 1, 2), 2)[0], 2, 1).reshape(
        7, 4
    ),
    None,
)
M(
    "scatter_parent",
    6,
    6,
    lambda h: (
        jnp.zeros((7, 3, 2)).at[:, jnp.array([1, 2, 0])].set(h.reshape(7, 3, 2)).reshape(7, 6)
    ),
    None,
)
M(
    "scatter_add_parent",
    6,
    4,
    lambda h: (
        jnp.zeros((7, 2, 2)).at[:, jnp.array([1, 0, 0])].add(h.reshape(7, 3, 2)).reshape(7, 4)
    ),
    None,
)
M(
    "dynroll_parent",
    6,
    6,
    lambda h: jnp.roll(h.reshape(7, 3, 2), jnp.argmax(h[0, :3]), 1).reshape(7, 6),
    None,
)
M(
    "dus_parent",
    6,
    6,
    lambda h: lax.dynamic_update_slice(
        jnp.sin(h.reshape(7, 3, 2)), h.reshape(7, 3, 2)[:, :1], (0, 2, 0)
    ).reshape(7, 6),
    None,
)
M(
    "transpose_LL",
    4,
    4,
    lambda h: h.reshape(7, 2, 2).transpose(0, 2, 1).reshape(7, 4) + jnp.sin(h),
    None,
)
M(
    "outer_LL",
    6,
    9,
    lambda h: (lambda z: jnp.einsum("blh,bmh->blm", z, z).reshape(7, 9))(h.reshape(7, 3, 2)),
    None,
)
M(
    "shift_LL",
    6,
    9,
    lambda h: (lambda z: jnp.einsum("blh,bmh->blm", z, jnp.roll(z, 1, 1)).reshape(7, 9))(
        h.reshape(7, 3, 2)
    ),
    None,
)
M(
    "maxpool_grad",
    6,
    6,
    lambda h: (
        jax.grad(
            lambda z: lax.reduce_window(z, -jnp.inf, lax.max, (1, 2, 1), (1, 1, 1), "VALID").sum()
        )(h.reshape(7, 3, 2)).reshape(7, 6)
        * h
    ),
    None,
)
M(
    "triu_parent",
    6,
    6,
    lambda h: jnp.einsum("blh,lm->bmh", h.reshape(7, 3, 2), jnp.triu(jnp.ones((3, 3)))).reshape(
        7, 6
    ),
    None,
)
M(
    "ones_parent",
    6,
    6,
    lambda h: jnp.einsum("blh,lm->bmh", h.reshape(7, 3, 2), jnp.ones((3, 3))).reshape(7, 6),
    None,
)
M(
    "mean_sub_parent",
    6,
    6,
    lambda h: (lambda z: jnp.sin(z - z.mean(1, keepdims=True)).reshape(7, 6))(h.reshape(7, 3, 2)),
    None,
)
M("softmax_parent", 6, 6, lambda h: jax.nn.softmax(h.reshape(7, 3, 2), 1).reshape(7, 6), None)
M("softmax_parent_in", 6, 6, lambda h: jax.nn.softmax(h.reshape(7, 3, 2), 2).reshape(7, 6), None)
M(
    "arange_parent",
    6,
    6,
    lambda h: jnp.sin(h.reshape(7, 3, 2) + jnp.arange(3.0)[:, None]).reshape(7, 6),
    None,
)
M(
    "arange_parent_diff",
    6,
    6,
    lambda h: (lambda z: z[:, 1:] - z[:, :-1])(
        jnp.pad(h.reshape(7, 3, 2), ((0, 0), (0, 1), (0, 0)))
    ).reshape(7, 6),
    None,
)
M(
    "relu_topk",
    6,
    6,
    lambda h: (lambda r: jnp.zeros((7, 6)).at[jnp.arange(7)[:, None], lax.top_k(r, 2)[1]].set(1.0))(
        jax.nn.relu(h)
    ),
    None,
)
M("relu_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(jax.nn.relu(h - 0.8), -1)], None)
M("sign_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(jnp.sign(h), -1)], None)
M(
    "clip_argsort",
    6,
    6,
    lambda h: jnp.take_along_axis(jnp.sin(h), jnp.argsort(jnp.clip(h, -0.1, 0.1), -1), -1),
    None,
)
M("round_topk", 6, 2, lambda h: jnp.take_along_axis(h, lax.top_k(jnp.round(2 * h), 2)[1], -1), None)
M("eq_max_mask", 6, 6, lambda h: (h == h.max(-1, keepdims=True)).astype(h.dtype) * h, None)
M("where_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(jnp.where(h > 0, h, 0.0), -1)], None)
M("abs_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(jnp.abs(h), -1)], None)
M("prod_zero_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(h * jax.nn.relu(h), -1)], None)
M("int_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax((3 * h).astype(jnp.int32), -1)], None)
M("argmin_ties", 6, 6, lambda h: jnp.eye(6)[jnp.argmin(jnp.maximum(h, 0.0), -1)], None)
M("const_argmax", 6, 6, lambda h: jnp.eye(6)[jnp.argmax(0 * h, -1)], None)
M(
    "median_payload",
    5,
    1,
    lambda h: jnp.take_along_axis(jnp.sin(3 * h), jnp.argsort(jnp.sign(h), -1)[:, 2:3], -1),
    None,
)
M("two_hidden_topk", 6, 2, lambda h: lax.top_k(jax.nn.relu(h), 2)[0], None)
M(
    "cond_on_index",
    6,
    6,
    lambda h: lax.cond(jnp.argmax(h[0]) == 2, lambda h: h, lambda h: jnp.sin(h), h),
    None,
)
M(
    "switch_on_index",
    6,
    6,
    lambda h: lax.switch(jnp.argmax(h[0]), [lambda h, i=i: h * (i + 1) for i in range(6)], h),
    None,
)
M(
    "while_index",
    6,
    6,
    lambda h: lax.while_loop(
        lambda c: c[0] > 0, lambda c: (c[0] - 1, jnp.sin(2 * c[1])), (jnp.argmax(h[0]), h)
    )[1],
    None,
)
M(
    "fori_index_bound",
    6,
    6,
    lambda h: lax.fori_loop(0, jnp.argmax(h[0]), lambda i, c: jnp.sin(2 * c), h),
    None,
)
M(
    "index_carry",
    6,
    6,
    lambda h: lax.fori_loop(0, 3, lambda i, c: (c[0] + 1, c[1] * c[0]), (jnp.argmax(h[0]), h))[1],
    None,
)
M(
    "index_carry_next",
    6,
    1,
    lambda h: h[:, lax.fori_loop(0, 2, lambda i, c: (c + 1) % 6, jnp.argmax(h[0]))][:, None],
    None,
)
M(
    "index_carry_lookup",
    6,
    1,
    lambda h: h[
        :, lax.fori_loop(0, 2, lambda i, c: jnp.argmax(jnp.sin(h[c])), jnp.argmax(h[0]) % 6)
    ][:, None],
    None,
)
M("bitcast", 6, 6, lambda h: lax.bitcast_convert_type(h, jnp.int64).astype(h.dtype) * 1e-18, None)
M("iota_from_shape", 6, 6, lambda h: h * lax.broadcasted_iota(h.dtype, (7, 6), 1), None)
M("iota_batch", 6, 6, lambda h: h * lax.broadcasted_iota(h.dtype, (7, 6), 0), None)
M("linspace_mult", 6, 6, lambda h: h * jnp.linspace(0, 1, 6), None)
M("cumsum_ones", 6, 6, lambda h: h * jnp.cumsum(jnp.ones_like(h), -1), None)
M("ones_like_scan", 6, 6, lambda h: h * lax.scan(lambda c, x: (c + 1, c), 0.0, h.T)[1][None], None)
M("zeros_at", 6, 6, lambda h: h * jnp.zeros_like(h).at[:, 3].set(1.0) + h**2, None)
M("argsort_const", 6, 6, lambda h: h[:, jnp.argsort(-jnp.arange(6))], None)
M(
    "tri_mask_from_compare",
    6,
    6,
    lambda h: h @ jnp.where(jnp.arange(6)[:, None] >= jnp.arange(6), 1.0, 0.0),
    None,
)
M("eye_shift", 6, 6, lambda h: h @ jnp.eye(6, k=1), None)
M(
    "eye_compare_shift",
    6,
    6,
    lambda h: h @ (jnp.arange(6)[:, None] == (jnp.arange(6) + 1) % 6).astype(h.dtype),
    None,
)
M("eye_flip", 6, 6, lambda h: h @ jnp.eye(6)[::-1], None)
M("eye_plus_ones", 6, 6, lambda h: jnp.sin(h @ (jnp.eye(6) + 0.1)), S(6))
M("eye_reshape", 6, 6, lambda h: jnp.sin(h @ jnp.eye(36).reshape(6, 6, 6, 6).sum((1, 3))), None)
M("eye_rect", 6, 4, lambda h: h @ jnp.eye(6, 4), None)
M("diag_const", 6, 6, lambda h: h @ jnp.diag(jnp.arange(6.0)), None)
M("diag_const_uniform", 6, 6, lambda h: h @ jnp.diag(jnp.full(6, 2.0)), None)
M("kron_ones_eye", 6, 6, lambda h: jnp.sin(h @ jnp.kron(jnp.ones((2, 2)), jnp.eye(3))), None)
M(
    "hadamard",
    4,
    4,
    lambda h: h @ jnp.array([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]),
    None,
)
