"""Layers stored along an axis: scanned, looped over by index, mapped, and ensembles of networks."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import data, draw, stack
from .raw_transformer import BLOCK, NORM, D, norm, pre_norm_block, tokens
from .registry import case

L, B = 3, 6


RESIDUAL = {"up": (5, 7), "bias": (7,), "down": (7, 5)}
ENDS = {"in": (3, 5), "out": (5, 2)}


def residual(p, h):
    """``h + tanh(h @ up + bias) @ down``."""
    return h + jnp.tanh(h @ p["up"] + p["bias"]) @ p["down"]


def _residual_stack(run):
    """``build``: ``run(layers, h)`` applies L residual blocks stored along a leading axis."""

    def build(key):
        def fn(p, x):
            return run(p["layers"], x @ p["in"]) @ p["out"]

        return fn, draw(key, ENDS | {"layers": stack(RESIDUAL, L)}), data(key, (B, 3))

    return build


def _scan(layers, h):
    return lax.scan(lambda h, p: (residual(p, h), None), h, layers)[0]


def _scan_checkpoint_unrolled(layers, h):
    body = jax.checkpoint(jax.jit(residual))
    return lax.scan(lambda h, p: (body(p, h), None), h, layers, unroll=2, reverse=True)[0]


def _scan_all_states(layers, h):
    def step(h, p):
        h = residual(p, h)
        return h, h

    return jnp.sum(lax.scan(step, h, layers)[1] ** 3, axis=0)


def _python_index(layers, h):
    for i in range(L):
        h = residual(jax.tree.map(lambda w, i=i: w[i], layers), h)
    return h


def _fori_index(layers, h):
    return lax.fori_loop(0, L, lambda i, h: residual(jax.tree.map(lambda w: w[i], layers), h), h)


def _fori_dynamic_index(layers, h):
    def step(i, h):
        return residual(jax.tree.map(lambda w: lax.dynamic_index_in_dim(w, i, 0, False), layers), h)

    return lax.fori_loop(0, L, step, h)


def _while_index(layers, h):
    def step(carry):
        i, h = carry
        return i + 1, residual(jax.tree.map(lambda w: jnp.take(w, i, axis=0), layers), h)

    return lax.while_loop(lambda carry: carry[0] < L, step, (0, h))[1]


def _scan_index(layers, h):
    def step(h, i):
        return residual(jax.tree.map(lambda w: w[i], layers), h), None

    return lax.scan(step, h, jnp.arange(L))[0]


# The stream S_5 is one; the hidden units of each of the 3 layers are independent: S_7^3.
STREAM = ((5, 1), (7, L))
for name, run in {
    "scan": _scan,
    "scan_checkpoint_unrolled": _scan_checkpoint_unrolled,
    "scan_all_states": _scan_all_states,
    "python_index": _python_index,
    "fori_index": _fori_index,
    "fori_dynamic_index": _fori_dynamic_index,
    "while_index": _while_index,
    "scan_index": _scan_index,
}.items():
    case(f"raw/residual_{name}", group=STREAM)(_residual_stack(run))


@case("raw/residual_nested_scan", group=((5, 1), (7, 4)))
def residual_nested_scan(key):
    # 4 layers as 2 x 2 (reshaped), one scan inside another: S_5, S_7^4.
    def fn(p, x):
        layers = jax.tree.map(lambda w: w.reshape(2, 2, *w.shape[1:]), p["layers"])
        h = lax.scan(lambda h, two: (_scan(two, h), None), x @ p["in"], layers)[0]
        return h @ p["out"]

    return fn, draw(key, ENDS | {"layers": stack(RESIDUAL, 4)}), data(key, (B, 3))


@case("raw/transformer_scan", group=((D, 1), (2, 2), (3, 4), (4, 4), (5, 2)))
def transformer_scan(key):
    # Per layer S_2 heads, S_3^2 q/k dims, S_4^2 v dims, S_5 MLP, all independent; S_6 stream.
    def fn(p, ids):
        h = p["embed"][ids]
        h = lax.scan(
            lambda h, block: (pre_norm_block(block, h, causal=True), None), h, p["blocks"]
        )[0]
        return norm(p["final"], h) @ p["embed"].T

    shapes = {"embed": (7, D), "blocks": stack(BLOCK, 2), "final": NORM}
    return fn, draw(key, shapes), (tokens(),)


def _plain_stack(run, ends=True):
    """``build``: L square layers without a skip, with an encoder and a decoder or without."""

    def build(key):
        def fn(p, x):
            h = jnp.sin(x @ p["in"]) if ends else x
            h = run(p["w"], p["b"], h)
            return h @ p["out"] if ends else h

        shapes = {"w": (L, 4, 4), "b": (L, 4)} | ({"in": (3, 4), "out": (4, 2)} if ends else {})
        return fn, draw(key, shapes), data(key, (B, 3 if ends else 4))

    return build


def _plain_scan(w, b, h):
    return lax.scan(lambda h, p: (jnp.tanh(h @ p[0] + p[1]), None), h, (w, b))[0]


def _plain_python(w, b, h):
    for i in range(L):
        h = jnp.tanh(h @ w[i] + b[i])
    return h


def _plain_fori(w, b, h):
    return lax.fori_loop(0, L, lambda i, h: jnp.tanh(h @ w[i] + b[i]), h)


def _plain_unstacked(w, b, h):
    for wi, bi in zip(w, b):
        h = jnp.tanh(h @ wi + bi)
    return h


# The 4 units before, between and after 3 square layers are independent: S_4^4; S_4^2 where input
# and output are themselves the first and last.
for name, run in {
    "scan": _plain_scan,
    "python": _plain_python,
    "fori": _plain_fori,
    "unstacked": _plain_unstacked,
}.items():
    case(f"raw/plain_{name}", group=((4, L + 1),))(_plain_stack(run))
    case(f"raw/plain_{name}_bare", group=((4, L - 1),))(_plain_stack(run, ends=False))


@case("raw/plain_scan_two_layers_each", group=((4, L + 1), (6, L)))
def plain_scan_two_layers_each(key):
    # Each step maps 4 -> 6 -> 4 without a skip: S_4 before, between, after, S_6 inside each.
    def fn(p, x):
        def step(h, layer):
            return jnp.tanh(jnp.tanh(h @ layer["up"]) @ layer["down"]), None

        return lax.scan(step, x @ p["in"], p["layers"])[0] @ p["out"]

    shapes = {"in": (3, 4), "layers": {"up": (L, 4, 6), "down": (L, 6, 4)}, "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (B, 3))


MEMBER = {"w": (3, 7), "b": (7,), "out": (7, 2)}


def member(p, x):
    """One small network."""
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["out"]


@case("raw/ensemble_mean", group=((3, 1), (7, 3)))
def ensemble_mean(key):
    # S_3 of the members, whose outputs are averaged; S_7 in each.
    def fn(p, x):
        return jnp.mean(jax.vmap(member, (0, None))(p, x), axis=0)

    return fn, draw(key, stack(MEMBER, 3)), data(key, (B, 3))


@case("raw/ensemble_all", group=((7, 3),))
def ensemble_all(key):
    # Every member's output is an output: members stand still; S_7 in each.
    return jax.vmap(member, (0, None)), draw(key, stack(MEMBER, 3)), data(key, (B, 3))


@case("raw/ensemble_map", group=((3, 1), (7, 3)))
def ensemble_map(key):
    # The same as the mean, one member after another.
    def fn(p, x):
        return jnp.max(lax.map(lambda q: member(q, x), p), axis=0)

    return fn, draw(key, stack(MEMBER, 3)), data(key, (12, 3))


@case("raw/ensemble_last_axis", group=((3, 1), (7, 3)))
def ensemble_last_axis(key):
    # Members along the last axis of each array; products of the outputs.
    def fn(p, x):
        return jnp.prod(jax.vmap(member, (-1, None), -1)(p, x), axis=-1)

    shapes = {"w": (3, 7, 3), "b": (7, 3), "out": (7, 2, 3)}
    return fn, draw(key, shapes), data(key, (B, 3))


@case("raw/ensemble_shared_trunk", group=((3, 1), (4, 1), (7, 3)))
def ensemble_shared_trunk(key):
    # S_4 of the trunk, which all 3 heads read; S_3 of the heads; S_7 in each.
    def fn(p, x):
        h = jnp.sin(x @ p["trunk"])
        return jax.nn.logsumexp(jax.vmap(member, (0, None))(p["heads"], h), axis=0)

    heads = {"w": (3, 4, 7), "b": (3, 7), "out": (3, 7, 2)}
    return fn, draw(key, {"trunk": (3, 4), "heads": heads}), data(key, (B, 3))


@case("raw/batch_ensemble", group=((3, 1), (5, 1)))
def batch_ensemble(key):
    # Members differ by rank-one factors of one shared matrix, so hidden units are shared: S_5 once.
    def fn(p, x):
        h = jnp.tanh((x * p["r"][:, None]) @ p["w"] * p["s"][:, None])
        return jnp.mean(jnp.einsum("ebh,eho->ebo", h, p["out"]), axis=0)

    shapes = {"r": (3, 3), "w": (3, 5), "s": (3, 5), "out": (3, 5, 2)}
    return fn, draw(key, shapes), data(key, (B, 3))
