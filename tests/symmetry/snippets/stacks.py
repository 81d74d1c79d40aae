"""Stacks of layers, and functions of weight matrices."""
# ruff: noqa: E501, E731

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .registry import A, C, P, X, snippet

SHAPES = {"w": (3, 5), "o": (5, 2), "U": (3, 5, 4), "b": (3, 4), "D": (3, 4, 5)}


def LL(name, f):
    C(name, None, lambda p, x: f(p, jnp.tanh(x @ p["w"])) @ p["o"], P(**SHAPES), X)


def st(h, q):
    return h + jnp.tanh(h @ q[0] + q[1]) @ q[2], None


LL("flip_one_stack", lambda p, h: lax.scan(st, h, (p["U"], p["b"][::-1], p["D"]))[0])
LL("flip_all_stacks", lambda p, h: lax.scan(st, h, (p["U"][::-1], p["b"][::-1], p["D"][::-1]))[0])
LL("roll_one_stack", lambda p, h: lax.scan(st, h, (p["U"], jnp.roll(p["b"], 1, 0), p["D"]))[0])
LL(
    "gather_one_stack",
    lambda p, h: lax.scan(st, h, (p["U"], p["b"][jnp.array([1, 2, 0])], p["D"]))[0],
)
LL(
    "rotate_by_concat",
    lambda p, h: lax.scan(st, h, (p["U"], jnp.concatenate([p["b"][1:], p["b"][:1]]), p["D"]))[0],
)
LL(
    "fori_offset",
    lambda p, h: lax.fori_loop(
        0, 3, lambda i, h: st(h, (p["U"][i], p["b"][(i + 1) % 3], p["D"][i]))[0], h
    ),
)
LL(
    "fori_rev_bias",
    lambda p, h: lax.fori_loop(
        0, 3, lambda i, h: st(h, (p["U"][i], p["b"][2 - i], p["D"][i]))[0], h
    ),
)
LL(
    "fori_two_counters",
    lambda p, h: lax.fori_loop(
        0, 3, lambda i, c: (c[0] + 1, st(c[1], (p["U"][i], p["b"][c[0]], p["D"][i]))[0]), (0, h)
    )[1],
)
LL(
    "fori_two_counters_off",
    lambda p, h: lax.fori_loop(
        0, 2, lambda i, c: (c[0] + 1, st(c[1], (p["U"][i], p["b"][c[0]], p["D"][i]))[0]), (1, h)
    )[1],
)
LL(
    "while_counter_down",
    lambda p, h: lax.while_loop(
        lambda c: c[0] >= 0,
        lambda c: (c[0] - 1, st(c[1], (p["U"][c[0]], p["b"][c[0]], p["D"][c[0]]))[0]),
        (2, h),
    )[1],
)
LL(
    "while_skip",
    lambda p, h: lax.while_loop(
        lambda c: c[0] < 3,
        lambda c: (c[0] + 2, st(c[1], (p["U"][c[0]], p["b"][c[0]], p["D"][c[0]]))[0]),
        (0, h),
    )[1],
)
LL(
    "scan_carry_previous",
    lambda p, h: lax.scan(
        lambda c, q: ((c[0] + jnp.tanh(c[0] @ q[0] + c[1]) @ q[2], q[1]), None),
        (h, jnp.zeros(4)),
        (p["U"], p["b"], p["D"]),
    )[0][0],
)
LL(
    "index_by_max",
    lambda p, h: (lambda i: st(h, (p["U"][i], p["b"][i], p["D"][i]))[0])(jnp.argmax(h.sum(0)) % 3),
)
LL(
    "index_by_max_two",
    lambda p, h: (lambda i: st(h, (p["U"][i], p["b"][2 - i], p["D"][i]))[0])(jnp.argmax(h[0, :3])),
)
LL(
    "vmap_flip",
    lambda p, h: jax.vmap(lambda u, b, d: st(h, (u, b, d))[0])(p["U"], p["b"][::-1], p["D"]).sum(0),
)
LL(
    "map_perm_L",
    lambda p, h: lax.map(lambda q: st(h, q)[0], (p["U"], p["b"], p["D"]))[::-1].cumsum(0)[-1],
)
LL("layer_mean_shared", lambda p, h: st(h, (p["U"].mean(0), p["b"].mean(0), p["D"].mean(0)))[0])
LL("layer_sum_two", lambda p, h: st(h, (p["U"].sum(0), p["b"][0], p["D"][1]))[0])
LL("slices_of_stack", lambda p, h: lax.scan(st, h, (p["U"][:2], p["b"][1:], p["D"][:2]))[0])
LL("reshape_stack", lambda p, h: lax.scan(st, h, (p["U"], p["b"].reshape(4, 3).T, p["D"]))[0])
LL(
    "reshape_stack2",
    lambda p, h: st(
        h, (p["U"].transpose(1, 0, 2).reshape(5, 12), p["b"].reshape(12), p["D"].reshape(12, 5))
    )[0],
)
LL(
    "reshape_stack3",
    lambda p, h: st(
        h,
        (
            p["U"].transpose(1, 2, 0).reshape(5, 12),
            p["b"].T.reshape(12),
            p["D"].transpose(1, 0, 2).reshape(12, 5),
        ),
    )[0],
)
LL(
    "reshape_stack_bad",
    lambda p, h: st(
        h, (p["U"].transpose(1, 2, 0).reshape(5, 12), p["b"].reshape(12), p["D"].reshape(12, 5))
    )[0],
)
LL(
    "scan_ys_index",
    lambda p, h: (lambda ys: ys[-1] + ys[0] * 2)(
        lax.scan(lambda c, q: (st(c, q)[0],) * 2, h, (p["U"], p["b"], p["D"]))[1]
    ),
)
LL(
    "scan_hidden_ys",
    lambda p, h: jnp.einsum(
        "lbm,lm,lmd->bd",
        lax.scan(lambda c, q: (c, jnp.tanh(c @ q[0] + q[1])), h, (p["U"], p["b"]))[1],
        p["b"][::-1],
        p["D"],
    ),
)
LL(
    "scan_hidden_ys_ok",
    lambda p, h: jnp.einsum(
        "lbm,lm,lmd->bd",
        lax.scan(lambda c, q: (c, jnp.tanh(c @ q[0] + q[1])), h, (p["U"], p["b"]))[1],
        p["b"],
        p["D"],
    ),
)


@snippet(None, P(w=(3, 4), m=(4, 4), o=(4, 2)), X)
def tril_indices(p, x):
    i = jnp.tril_indices(4)
    h = jnp.tanh(x @ p["w"])
    return h @ p["m"].at[i].set(0.0) @ p["o"]


@snippet(None, P(w=(3, 4), v=(6,), o=(4, 2)), X)
def sym_from_vec(p, x):
    i, j = np.triu_indices(4, 1)
    m = jnp.zeros((4, 4)).at[i, j].set(p["v"])
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ (m - m.T)) @ p["o"]


@snippet(None, P(w=(3, 3), m=(3, 3), o=(3, 2)), A(3, 3))
def sizes_agree(p, x):
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ p["m"]).T @ p["o"]


@snippet(None, P(w=(3, 4), c=(4,), o=(4, 2)), X)
def circulant(p, x):
    C = jnp.stack([jnp.roll(p["c"], i) for i in range(4)])
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ C) @ p["o"]


@snippet(None, P(w=(3, 4), c=(7,), o=(4, 2)), X)
def toeplitz(p, x):
    i = jnp.arange(4)
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ p["c"][i[:, None] - i[None] + 3]) @ p["o"]


@snippet(None, P(w=(4, 3, 4)[:0] or (3, 4), L=(3, 4, 4), o=(4, 2)), X)
def layers_matrix_product(p, x):
    m = lax.scan(lambda c, w: (c @ w, None), jnp.eye(4), p["L"])[0]
    return jnp.tanh(x @ p["w"]) @ m @ p["o"]


@snippet(None, P(w=(3, 4), L=(3, 4, 4), o=(4, 2)), X)
def assoc_matmul(p, x):
    m = lax.associative_scan(jnp.matmul, p["L"])[-1]
    return jnp.tanh(x @ p["w"]) @ m @ p["o"]


@snippet(None, P(w=(3, 4), m=(4, 4), o=(4, 2)), X)
def matrix_power(p, x):
    return jnp.tanh(x @ p["w"]) @ jnp.linalg.matrix_power(p["m"], 3) @ p["o"]


@snippet(None, P(w=(3, 4), m=(4, 4), o=(4, 2)), X)
def expm(p, x):
    return jnp.tanh(x @ p["w"]) @ jax.scipy.linalg.expm(0.1 * p["m"]) @ p["o"]


@snippet(None, P(w=(3, 4), m=(4, 4), o=(4, 2)), X)
def solve(p, x):
    return jnp.linalg.solve(jnp.eye(4) * 3 - 0.1 * p["m"], jnp.tanh(x @ p["w"]).T).T @ p["o"]


@snippet(None, P(w=(3, 4), m=(4, 4), o=(4, 2)), X)
def det(p, x):
    return jnp.tanh(x @ p["w"]) @ p["o"] * jnp.linalg.det(p["m"])


@snippet(None, P(a=(4, 5), b=(4, 5), o=(5, 2), w=(3, 4)), X)
def stack_leaves(p, x):
    s = jnp.stack([p["a"], p["b"]])
    return lax.scan(
        lambda c, w: (c + jnp.tanh(x @ p["w"]) @ w @ p["o"], None), jnp.zeros((7, 2)), s
    )[0]


@snippet(None, P(a=(4, 4), b=(4, 4), w=(3, 4), o=(4, 2)), X)
def stack_leaves_plain(p, x):
    s = jnp.stack([p["a"], p["b"]])
    return lax.scan(lambda c, w: (jnp.tanh(c @ w), None), jnp.tanh(x @ p["w"]), s)[0] @ p["o"]


@snippet(None, P(E=(6, 4), o=(4, 2)), jnp.array([0, 5, 2, 3, 1, 4]))
def embed_index_arith(p, i):
    return jnp.sin(p["E"][(i + 1) % 6] * p["E"][i]) @ p["o"]


@snippet(None, P(L=(3, 5, 5), w=(3, 5), o=(5, 2)), X, jnp.array(1))
def layer_by_input(p, x, i):
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ p["L"][i]) @ p["o"]


@snippet(None, P(L=(3, 5, 5), w=(3, 5), o=(5, 2)), X)
def layers_rev_index(p, x):
    return (
        lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ p["L"][2 - i]), jnp.tanh(x @ p["w"])) @ p["o"]
    )


@snippet(None, P(L=(4, 5, 5), w=(3, 5), o=(5, 2)), X)
def layers_same_twice(p, x):
    return (
        lax.fori_loop(0, 4, lambda i, h: jnp.tanh(h @ p["L"][i // 2]), jnp.tanh(x @ p["w"]))
        @ p["o"]
    )


@snippet(None, P(L=(4, 5, 5), w=(3, 5), o=(5, 2)), X)
def layers_neighbours(p, x):
    return (
        lax.fori_loop(
            0, 3, lambda i, h: jnp.tanh(h @ p["L"][i] @ p["L"][i + 1].T), jnp.tanh(x @ p["w"])
        )
        @ p["o"]
    )


@snippet(None, P(w=(3, 4, 5), o=(5, 4, 2)), X)
def vmap_cross(p, x):
    h = jax.vmap(lambda w: jnp.tanh(x @ w), 1, 0)(p["w"])
    return jnp.einsum("ebh,heo->bo", h, p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2), m=(5, 5)), X)
def vmap_shared(p, x):
    h = jax.vmap(lambda w: jnp.tanh(jnp.tanh(x @ w) @ p["m"]), 1, 0)(p["w"])
    return jnp.einsum("ebh,eho->bo", h, p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_diag_mask(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    g = jnp.einsum("beh,bfh->bef", h, h)
    g = jnp.where(jnp.eye(4, dtype=bool), 0.0, g)
    return jnp.einsum("bef,bfh,eho->bo", g, h, p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_cross(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    g = jnp.einsum("beh,bfh->bef", h, h)
    return jnp.einsum("bef,bfh,eho->bo", jnp.tanh(g), h, p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_next(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    return jnp.einsum("beh,eho->bo", h + jnp.roll(h, 1, 1), p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_sorted(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    return jnp.einsum("beh,eho->bo", jnp.sort(h, 1), p["o"])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_top1(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    i = jnp.argmax(h.sum(-1), 1)
    return jnp.einsum("bh,bho->bo", jnp.take_along_axis(h, i[:, None, None], 1)[:, 0], p["o"][i])


@snippet(None, P(w=(3, 4, 5), o=(4, 5, 2)), X)
def heads_argmax_inner(p, x):
    h = jnp.tanh(jnp.einsum("bi,ieh->beh", x, p["w"]))
    i = jnp.argmax(h, -1)
    return jnp.einsum(
        "be,beo->bo", h.sum(-1), jnp.take_along_axis(p["o"][None], i[:, :, None, None], 2)[:, :, 0]
    )
