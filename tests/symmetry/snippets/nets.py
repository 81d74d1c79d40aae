"""Attention, convolutions, recurrences and other networks."""
# ruff: noqa: E501, E731

import jax
import jax.flatten_util
import jax.numpy as jnp
from jax import lax

from .registry import A, C, P, X

AT = {"q": (5, 6), "k": (5, 6), "v": (5, 6), "o": (6, 5)}
G = {"q": (5, 12), "k": (5, 6), "v": (5, 6), "o": (12, 5)}
Z, I4 = A(4, 5), A(2, 3, 3, 2)


def att(q, k, v):
    return jnp.einsum("hts,shv->thv", jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k), -1), v)


def conv(x, w, groups=1, batches=1, **k):
    return lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        feature_group_count=groups,
        batch_group_count=batches,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **k,
    )


C(
    "att_k_transposed_heads",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["k"]).reshape(4, 3, 2).transpose(0, 2, 1),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_o_transposed",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        )
        .transpose(0, 2, 1)
        .reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_q_flipped_heads",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3)[:, ::-1],
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_q_flipped_dims",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3)[:, :, ::-1],
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_shared_qk",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_v_is_k",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["k"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "gqa_tile",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 4, 3),
            jnp.tile((x @ p["k"]).reshape(4, 2, 3), (1, 2, 1)),
            jnp.tile((x @ p["v"]).reshape(4, 2, 3), (1, 2, 1)),
        ).reshape(4, 12)
        @ p["o"]
    ),
    P(**G),
    Z,
)
C(
    "gqa_tile_repeat",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 4, 3),
            jnp.tile((x @ p["k"]).reshape(4, 2, 3), (1, 2, 1)),
            jnp.repeat((x @ p["v"]).reshape(4, 2, 3), 2, 1),
        ).reshape(4, 12)
        @ p["o"]
    ),
    P(**G),
    Z,
)
C(
    "gqa_k2_v1",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 4, 3),
            jnp.repeat((x @ p["k"]).reshape(4, 2, 3), 2, 1),
            jnp.broadcast_to((x @ p["v"][:, :3]).reshape(4, 1, 3), (4, 4, 3)),
        ).reshape(4, 12)
        @ p["o"]
    ),
    P(**G),
    Z,
)
C(
    "att_head_masks",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3) * jnp.array([1.0, 2.0])[:, None],
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_kv_cache",
    None,
    lambda p, x: (lambda kc, vc: att((x @ p["q"]).reshape(4, 2, 3), kc, vc).reshape(4, 6) @ p["o"])(
        lax.dynamic_update_slice(jnp.zeros((6, 2, 3)), (x @ p["k"]).reshape(4, 2, 3), (1, 0, 0)),
        lax.dynamic_update_slice(jnp.zeros((6, 2, 3)), (x @ p["v"]).reshape(4, 2, 3), (1, 0, 0)),
    ),
    P(**AT),
    Z,
)
C(
    "att_scan_decode",
    None,
    lambda p, x: lax.scan(
        lambda c, t: (
            lambda k, v: ((k, v), att((x[t] @ p["q"]).reshape(1, 2, 3), k, v).reshape(6) @ p["o"])
        )(
            c[0].at[t].set((x[t] @ p["k"]).reshape(2, 3)),
            c[1].at[t].set((x[t] @ p["v"]).reshape(2, 3)),
        ),
        (jnp.zeros((4, 2, 3)), jnp.zeros((4, 2, 3))),
        jnp.arange(4),
    )[1],
    P(**AT),
    Z,
)
C(
    "att_roll_kv",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            jnp.roll((x @ p["k"]).reshape(4, 2, 3), 1, 1),
            (x @ p["v"]).reshape(4, 2, 3),
        ).reshape(4, 6)
        @ p["o"]
    ),
    P(**AT),
    Z,
)
C(
    "att_head_axis_sum",
    None,
    lambda p, x: (
        att(
            (x @ p["q"]).reshape(4, 2, 3),
            (x @ p["k"]).reshape(4, 2, 3),
            (x @ p["v"]).reshape(4, 2, 3),
        ).sum(1)
        @ p["o"][:3]
    ),
    P(**AT),
    Z,
)
C(
    "groups_2_then_3",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["a"], 2)), p["b"], 3)).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 6), a=(1, 1, 3, 6), b=(1, 1, 2, 6), o=(6, 2)),
    I4,
)
C(
    "groups_2_then_4",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["a"], 2)), p["b"], 4)).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 8), a=(1, 1, 4, 8), b=(1, 1, 2, 8), o=(8, 2)),
    I4,
)
C(
    "groups_4_then_2",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["a"], 4)), p["b"], 2)).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 8), a=(1, 1, 2, 8), b=(1, 1, 4, 8), o=(8, 2)),
    I4,
)
C(
    "groupnorm_then_groups3",
    None,
    lambda p, x: (lambda z: jnp.tanh(conv(z, p["b"], 3)).mean((1, 2)) @ p["o"])(
        (
            lambda h: (lambda z: (z / (1 + z.std((1, 2, 4), keepdims=True))).reshape(2, 3, 3, 6))(
                h.reshape(2, 3, 3, 2, 3)
            )
        )(conv(x, p["s"]))
    ),
    P(s=(1, 1, 2, 6), b=(1, 1, 2, 6), o=(6, 2)),
    I4,
)
C(
    "groupnorm_2_and_3",
    None,
    lambda p, x: (lambda n, h: jnp.sin(n(n(h, 2), 3)).mean((1, 2)) @ p["o"])(
        lambda h, g: (lambda z: (z / (1 + z.std((1, 2, 4), keepdims=True))).reshape(2, 3, 3, 6))(
            h.reshape(2, 3, 3, g, 6 // g)
        ),
        conv(x, p["s"]),
    ),
    P(s=(1, 1, 2, 6), o=(6, 2)),
    I4,
)
C(
    "groupnorm_concat",
    None,
    lambda p, x: (
        lambda h: (
            lambda z: (
                jnp.sin((z / (1 + z.std((1, 2, 4), keepdims=True))).reshape(2, 3, 3, 8)).mean(
                    (1, 2)
                )
                @ p["o"]
            )
        )(h.reshape(2, 3, 3, 4, 2))
    )(jnp.concatenate([conv(x, p["s"]), conv(x, p["t"])], -1)),
    P(s=(1, 1, 2, 3), t=(1, 1, 2, 5), o=(8, 2)),
    I4,
)
C(
    "groupnorm_concat_even",
    None,
    lambda p, x: (
        lambda h: (
            lambda z: (
                jnp.sin((z / (1 + z.std((1, 2, 4), keepdims=True))).reshape(2, 3, 3, 8)).mean(
                    (1, 2)
                )
                @ p["o"]
            )
        )(h.reshape(2, 3, 3, 2, 4))
    )(jnp.concatenate([conv(x, p["s"]), conv(x, p["t"])], -1)),
    P(s=(1, 1, 2, 4), t=(1, 1, 2, 4), o=(8, 2)),
    I4,
)
C(
    "batch_groups",
    None,
    lambda p, x: (
        jnp.tanh(
            lax.conv_general_dilated(
                conv(x, p["s"]),
                p["k"],
                (1, 1),
                "SAME",
                batch_group_count=2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        ).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 3), k=(3, 3, 3, 4), o=(4, 2)),
    I4,
)
C(
    "conv_channels_as_space",
    None,
    lambda p, x: conv(jnp.tanh(conv(x, p["s"])).transpose(0, 1, 3, 2), p["k"]).mean((1, 2)),
    P(s=(1, 1, 2, 4), k=(1, 3, 3, 5)),
    I4,
)
C(
    "conv_flip_kernel",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["k"][::-1, ::-1])).mean((1, 2)) @ p["o"]
    ),
    P(s=(1, 1, 2, 4), k=(3, 3, 4, 5), o=(5, 2)),
    I4,
)
C(
    "conv_transposed_kernel",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["k"].transpose(1, 0, 3, 2))).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 4), k=(3, 3, 5, 4), o=(5, 2)),
    I4,
)
C(
    "conv_rot_equivariant",
    None,
    lambda p, x: (
        sum(
            jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), jnp.rot90(p["k"], r))).mean((1, 2))
            for r in range(4)
        )
        @ p["o"]
    ),
    P(s=(1, 1, 2, 4), k=(3, 3, 4, 5), o=(5, 2)),
    I4,
)
C(
    "depthwise_misaligned",
    None,
    lambda p, x: (
        jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x, p["s"])), p["d"], 2)), p["e"], 4)).mean((1, 2))
        @ p["o"]
    ),
    P(s=(1, 1, 2, 4), d=(3, 3, 2, 4), e=(3, 3, 1, 8), o=(8, 2)),
    I4,
)
C(
    "split_conv_concat_swap",
    None,
    lambda p, x: (
        lambda a, b: jnp.tanh(conv(jnp.concatenate([b, a], -1), p["k"])).mean((1, 2)) @ p["o"]
    )(*jnp.split(jnp.tanh(conv(x, p["s"])), 2, -1)),
    P(s=(1, 1, 2, 6), k=(1, 1, 6, 4), o=(4, 2)),
    I4,
)
C(
    "split_residual_swap",
    None,
    lambda p, x: (
        lambda h: (
            jnp.tanh(h + jnp.concatenate([h[..., 3:], h[..., :3]], -1) * 0.5).mean((1, 2)) @ p["o"]
        )
    )(conv(x, p["s"])),
    P(s=(1, 1, 2, 6), o=(6, 2)),
    I4,
)
C(
    "revnet",
    None,
    lambda p, x: (
        lambda h: (
            lambda a, b: (lambda a2: jnp.concatenate([a2, b + jnp.tanh(a2 @ p["g"])], -1) @ p["o"])(
                a + jnp.tanh(b @ p["f"])
            )
        )(h[:, :3], h[:, 3:])
    )(jnp.tanh(x @ p["w"])),
    P(w=(3, 6), f=(3, 3), g=(3, 3), o=(6, 2)),
    X,
)
C(
    "revnet_swap",
    None,
    lambda p, x: (
        lambda h: (
            lax.fori_loop(
                0,
                3,
                lambda i, h: jnp.concatenate(
                    [h[:, 3:], h[:, :3] + jnp.tanh(h[:, 3:] @ p["f"])], -1
                ),
                h,
            )
            @ p["o"]
        )
    )(jnp.tanh(x @ p["w"])),
    P(w=(3, 6), f=(3, 3), o=(6, 2)),
    X,
)
C(
    "cross_stitch",
    None,
    lambda p, x: (
        lambda a, b: (
            jnp.tanh(p["s"][0, 0] * a + p["s"][0, 1] * b) @ p["o"]
            + jnp.tanh(p["s"][1, 0] * a + p["s"][1, 1] * b) @ p["q"]
        )
    )(jnp.tanh(x @ p["w"]), jnp.tanh(x @ p["v"])),
    P(w=(3, 4), v=(3, 4), s=(2, 2), o=(4, 2), q=(4, 2)),
    X,
)
C(
    "cross_stitch_einsum",
    None,
    lambda p, x: jnp.einsum(
        "bkh,kho->bo",
        jnp.tanh(
            jnp.einsum(
                "lk,blh->bkh", p["s"], jnp.stack([jnp.tanh(x @ p["w"]), jnp.tanh(x @ p["v"])], 1)
            )
        ),
        p["o"],
    ),
    P(w=(3, 4), v=(3, 4), s=(2, 2), o=(2, 4, 2)),
    X,
)
C(
    "sum_of_stack",
    None,
    lambda p, x: jnp.tanh(jnp.stack([x @ p["w"], x @ p["v"]]).sum(0)) @ p["o"],
    P(w=(3, 4), v=(3, 4), o=(4, 2)),
    X,
)
C(
    "concat_weights",
    None,
    lambda p, x: (
        jnp.tanh(x @ jnp.concatenate([p["w"], p["v"]], 1)) @ jnp.concatenate([p["o"], p["q"]], 0)
    ),
    P(w=(3, 4), v=(3, 2), o=(4, 2), q=(2, 2)),
    X,
)
C(
    "concat_weights_misaligned",
    None,
    lambda p, x: (
        jnp.tanh(x @ jnp.concatenate([p["w"], p["v"]], 1)) @ jnp.concatenate([p["o"], p["q"]], 0)
    ),
    P(w=(3, 4), v=(3, 2), o=(3, 2), q=(3, 2)),
    X,
)
C(
    "flat_vector_net",
    None,
    lambda p, x: jnp.tanh(x @ p[:12].reshape(3, 4) + p[12:16]) @ p[16:24].reshape(4, 2),
    A(24),
    X,
)
C(
    "flat_vector_fortran",
    None,
    lambda p, x: jnp.tanh(x @ p[:12].reshape(4, 3).T + p[12:16]) @ p[16:24].reshape(2, 4).T,
    A(24),
    X,
)
C(
    "flat_ravel_pytree",
    None,
    lambda p, x: (lambda f, un: jnp.tanh(x @ un(f * 1.5)["w"]) @ un(f * 1.5)["o"])(
        *jax.flatten_util.ravel_pytree(p)
    ),
    P(w=(3, 4), o=(4, 2)),
    X,
)
C(
    "global_grad_clip",
    None,
    lambda p, x: (lambda g: jnp.tanh(x @ (p["w"] - g["w"])) @ (p["o"] - g["o"]))(
        (
            lambda g: (lambda n: jax.tree.map(lambda a: a / n, g))(
                jnp.sqrt(sum((jnp.sum(a**2) for a in jax.tree.leaves(g))))
            )
        )(jax.grad(lambda p: jnp.sum(jnp.tanh(x @ p["w"]) @ p["o"]))(p))
    ),
    P(w=(3, 4), o=(4, 2)),
    X,
)
C(
    "adam_inner",
    None,
    lambda p, x: (lambda g: jnp.tanh(x @ (p["w"] - g["w"] / (0.001 + jnp.abs(g["w"])))) @ p["o"])(
        jax.grad(lambda p: jnp.sum((jnp.tanh(x @ p["w"]) @ p["o"]) ** 2))(p)
    ),
    P(w=(3, 4), o=(4, 2)),
    X,
)
C(
    "hessian_trace",
    None,
    lambda p, x: jax.vmap(
        lambda z: jnp.trace(jax.hessian(lambda z: jnp.tanh(z @ p["w"]) @ p["o"][:, 0])(z))
    )(x),
    P(w=(3, 4), o=(4, 1)),
    X,
)
C(
    "jacobian_logdet",
    None,
    lambda p, x: jax.vmap(
        lambda z: jnp.linalg.slogdet(jax.jacfwd(lambda z: z + jnp.tanh(z @ p["w"]) @ p["o"])(z))[1]
    )(x),
    P(w=(3, 4), o=(4, 3)),
    X,
)
C(
    "spectral_norm_power",
    None,
    lambda p, x: (lambda v: jnp.tanh(x @ (p["w"] / jnp.linalg.norm(p["w"] @ v))) @ p["o"])(
        lax.fori_loop(
            0,
            5,
            lambda i, v: (lambda u: u / jnp.linalg.norm(u))(p["w"].T @ (p["w"] @ v)),
            jnp.ones(4),
        )
    ),
    P(w=(3, 4), o=(4, 2)),
    X,
)
C(
    "spectral_norm_param",
    None,
    lambda p, x: (lambda v: jnp.tanh(x @ (p["w"] / jnp.linalg.norm(p["w"] @ v))) @ p["o"])(
        lax.fori_loop(
            0, 5, lambda i, v: (lambda u: u / jnp.linalg.norm(u))(p["w"].T @ (p["w"] @ v)), p["v"]
        )
    ),
    P(w=(3, 4), o=(4, 2), v=(4,)),
    X,
)
C(
    "spectral_norm_arange",
    None,
    lambda p, x: (lambda v: jnp.tanh(x @ (p["w"] / jnp.linalg.norm(p["w"] @ v))) @ p["o"])(
        lax.fori_loop(
            0,
            5,
            lambda i, v: (lambda u: u / jnp.linalg.norm(u))(p["w"].T @ (p["w"] @ v)),
            jnp.arange(4.0),
        )
    ),
    P(w=(3, 4), o=(4, 2)),
    X,
)
C(
    "lstm_proj",
    None,
    lambda p, x: (
        lax.scan(
            lambda c, t: (
                lambda z: (
                    lambda i, f, g, o: (
                        lambda cc: ((cc, jax.nn.sigmoid(o) * jnp.tanh(cc) @ p["r"]), None)
                    )(jax.nn.sigmoid(f) * c[0] + jax.nn.sigmoid(i) * jnp.tanh(g))
                )(*jnp.split(z, 4, -1))
            )(t @ p["x"] + c[1] @ p["h"]),
            (jnp.zeros(4), jnp.zeros(3)),
            x,
        )[0][1]
        @ p["o"]
    ),
    P(x=(3, 16), h=(3, 16), r=(4, 3), o=(3, 2)),
    X,
)
C(
    "clockwork",
    None,
    lambda p, x: (
        lax.scan(
            lambda h, t: (jnp.where(jnp.arange(4) < 2, jnp.tanh(t @ p["x"] + h @ p["h"]), h), None),
            jnp.zeros(4),
            x,
        )[0]
        @ p["o"]
    ),
    P(x=(3, 4), h=(4, 4), o=(4, 2)),
    X,
)
C(
    "ordered_neurons",
    None,
    lambda p, x: (
        lax.scan(
            lambda h, t: (
                (lambda g: g * h + (1 - g) * jnp.tanh(t @ p["x"] + h @ p["h"]))(
                    jnp.cumsum(jax.nn.softmax(t @ p["g"]))
                ),
                None,
            ),
            jnp.zeros(4),
            x,
        )[0]
        @ p["o"]
    ),
    P(x=(3, 4), h=(4, 4), g=(3, 4), o=(4, 2)),
    X,
)
C(
    "delay_line",
    None,
    lambda p, x: (
        lax.scan(
            lambda h, t: (jnp.concatenate([jnp.tanh(t @ p["x"]), h[:-2]]), None), jnp.zeros(6), x
        )[0]
        @ p["o"]
    ),
    P(x=(3, 2), o=(6, 2)),
    X,
)
C(
    "ntm_shift",
    None,
    lambda p, x: (
        lambda w: (
            jnp.stack([jnp.roll(w, s, 1) for s in (-1, 0, 1)], -1) @ jnp.ones(3) @ p["M"] @ p["o"]
        )
    )(jax.nn.softmax(x @ p["k"] @ p["M"].T, -1)),
    P(k=(3, 4), M=(6, 4), o=(4, 2)),
    X,
)
C(
    "hash_embed",
    None,
    lambda p, x: (
        jnp.tanh(p["E"][(jnp.floor(3 * x[:, :2]) @ jnp.array([3, 5])).astype(int) % 6]) @ p["o"]
    ),
    P(E=(6, 4), o=(4, 2)),
    X,
)
C(
    "interp_grid",
    None,
    lambda p, x: (
        lambda t: (
            lambda i: (lambda f: ((1 - f) * p["E"][i] + f * p["E"][i + 1]) @ p["o"])(
                (t - i)[:, None]
            )
        )(jnp.floor(t).astype(int))
    )(jnp.clip(x[:, 0] + 2.5, 0, 4.9)),
    P(E=(6, 4), o=(4, 2)),
    X,
)
C(
    "triplane",
    None,
    lambda p, x: (
        jnp.tanh(
            sum(p["E"][k][jnp.clip(jnp.floor(x[:, k] + 2).astype(int), 0, 3)] for k in range(3))
        )
        @ p["o"]
    ),
    P(E=(3, 4, 5), o=(5, 2)),
    X,
)
