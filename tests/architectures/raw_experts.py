"""Mixtures of experts, graph networks and networks on sets."""

import jax
import jax.numpy as jnp
from jax import lax

from .raw_draw import affine, data, draw
from .registry import case

E, M, D = 4, 5, 3  # experts, hidden units of each, width of inputs and outputs
EXPERTS = {"router": (D, E), "w": (E, D, M), "b": (E, M), "out": (E, M, D)}

# Experts move with the router's columns, S_4; each has hidden units of its own, S_5^4.
MIXTURE = ((E, 1), (M, E))


def run_experts(p, x):
    """Every expert on every token: ``(n, D) -> (E, n, D)``."""
    h = jnp.tanh(jnp.einsum("nd,edm->enm", x, p["w"]) + p["b"][:, None])
    return jnp.einsum("enm,emd->end", h, p["out"])


def _mixture(fn, n=48):
    return lambda key: (fn, draw(key, EXPERTS, 1.0), data(key, (n, D)))


def dense_gates(p, x):
    """Softmax over all experts."""
    return jnp.einsum("ne,end->nd", jax.nn.softmax(x @ p["router"], axis=-1), run_experts(p, x))


def top_two_one_hot(p, x):
    """The two largest logits, renormalised, as one-hot combinations."""
    logits, which = lax.top_k(x @ p["router"], 2)
    gates = jax.nn.softmax(logits, axis=-1)
    combine = jnp.sum(gates[..., None] * jax.nn.one_hot(which, E, dtype=x.dtype), axis=1)
    return jnp.einsum("ne,end->nd", combine, run_experts(p, x))


def top_two_scatter(p, x):
    """The same, the gates scattered into a row of zeros."""
    logits, which = lax.top_k(x @ p["router"], 2)
    rows = jnp.arange(x.shape[0])[:, None]
    combine = jnp.zeros((x.shape[0], E), x.dtype).at[rows, which].set(jax.nn.softmax(logits, -1))
    return jnp.einsum("ne,end->nd", combine, run_experts(p, x))


def top_two_gather(p, x):
    """The same, the chosen experts' weights gathered for each token."""
    logits, which = lax.top_k(x @ p["router"], 2)

    def one(xi, gates, picked):
        h = jnp.tanh(jnp.einsum("d,kdm->km", xi, p["w"][picked]) + p["b"][picked])
        return jnp.einsum("k,km,kmd->d", gates, h, p["out"][picked])

    return jax.vmap(one)(x, jax.nn.softmax(logits, axis=-1), which)


def top_two_threshold(p, x):
    """The same, logits below the second largest masked before the softmax."""
    logits = x @ p["router"]
    second = lax.top_k(logits, 2)[0][:, -1:]
    gates = jax.nn.softmax(jnp.where(logits >= second, logits, -jnp.inf), axis=-1)
    return jnp.einsum("ne,end->nd", gates, run_experts(p, x))


def switch_one_hot(p, x):
    """The best expert alone, weighted by its probability."""
    probability = jax.nn.softmax(x @ p["router"], axis=-1)
    chosen = jax.nn.one_hot(jnp.argmax(probability, axis=-1), E, dtype=x.dtype)
    return jnp.einsum("ne,end->nd", chosen * probability, run_experts(p, x))


def switch_gather(p, x):
    """The same, token by token, the expert's weights taken by its number."""

    def one(xi):
        probability = jax.nn.softmax(xi @ p["router"])
        e = jnp.argmax(probability)
        return probability[e] * (jnp.tanh(xi @ p["w"][e] + p["b"][e]) @ p["out"][e])

    return jax.vmap(one)(x)


def switch_capacity(p, x):
    """Dispatch and combine tensors; an expert takes the first 14 tokens that choose it."""
    probability = jax.nn.softmax(x @ p["router"], axis=-1)
    chosen = jax.nn.one_hot(jnp.argmax(probability, axis=-1), E, dtype=x.dtype)
    place = jnp.sum((jnp.cumsum(chosen, axis=0) - 1) * chosen, axis=-1).astype(jnp.int32)
    dispatch = chosen[..., None] * jax.nn.one_hot(place, 14, dtype=x.dtype)[:, None]
    h = jnp.tanh(jnp.einsum("nec,nd,edm->ecm", dispatch, x, p["w"]) + p["b"][:, None])
    out = jnp.einsum("ecm,emd->ecd", h, p["out"])
    return jnp.einsum("nec,ne,ecd->nd", dispatch, probability, out)


def expert_choice(p, x):
    """Every expert takes the 12 tokens it rates highest."""
    rating = jax.nn.softmax(x @ p["router"], axis=-1).T
    gates, which = lax.top_k(rating, 12)
    h = jnp.tanh(jnp.einsum("ecd,edm->ecm", x[which], p["w"]) + p["b"][:, None])
    out = jnp.einsum("ec,ecm,emd->ecd", gates, h, p["out"])
    return jnp.zeros_like(x).at[which.reshape(-1)].add(out.reshape(-1, D))


for build in (
    dense_gates, top_two_one_hot, top_two_scatter, top_two_gather, top_two_threshold,
    switch_one_hot, switch_gather, switch_capacity, expert_choice,
):  # fmt: skip
    case(f"raw/experts_{build.__name__}", group=MIXTURE)(_mixture(build))


@case("raw/experts_list", group=((5, 1), (4, 1), (6, 1)))
def experts_list(key):
    # Experts as separate leaves cannot be exchanged by moving axes; S_5, S_4, S_6 inside them.
    def fn(p, x):
        gates = jax.nn.softmax(x @ p["router"], axis=-1)
        outs = jnp.stack([jnp.tanh(x @ e["w"]) @ e["out"] for e in p["experts"]], axis=1)
        return jnp.einsum("ne,ned->nd", gates, outs)

    experts = [{"w": (D, m), "out": (m, D)} for m in (5, 4, 6)]
    return fn, draw(key, {"router": (D, 3), "experts": experts}), data(key, (8, D))


@case("raw/experts_shared_and_routed", group=((E, 1), (M, E), (6, 1), (7, 1)))
def experts_shared_and_routed(key):
    # A stream of 7 with a residual; a shared expert of 6 besides the routed ones.
    def fn(p, x):
        h = x @ p["in"]
        logits, which = lax.top_k(h @ p["router"], 2)
        picked = jax.nn.one_hot(which, E, dtype=x.dtype)
        combine = jnp.einsum("nke,nk->ne", picked, jax.nn.sigmoid(logits))
        z = jnp.tanh(jnp.einsum("nd,edm->nem", h, p["w"]))
        h = (
            h
            + jnp.einsum("ne,nem,emd->nd", combine, z, p["back"])
            + jnp.tanh(h @ p["up"]) @ p["down"]
        )
        return h @ p["out"]

    shapes = {
        "in": (D, 7), "router": (7, E), "w": (E, 7, M), "back": (E, M, 7),
        "up": (7, 6), "down": (6, 7), "out": (7, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), data(key, (32, D))


SENDERS, RECEIVERS = jnp.array([0, 1, 2, 3, 4, 0, 2]), jnp.array([1, 2, 0, 2, 3, 4, 4])


@case("raw/graph_segment_sum", group=((6, 1), (5, 1), (4, 1)))
def graph_segment_sum(key):
    # S_6 of node states, kept by a residual; S_5 of messages; S_4 of the readout's hidden layer.
    def fn(p, nodes, edges, senders, receivers):
        h = nodes @ p["in"]
        for _ in range(2):
            pair = jnp.concatenate([h[senders], h[receivers], edges], axis=-1)
            messages = jnp.tanh(affine(p["message"], pair))
            gathered = jax.ops.segment_sum(messages, receivers, num_segments=h.shape[0])
            h = h + jnp.tanh(jnp.concatenate([h, gathered], axis=-1) @ p["update"])
        return jnp.tanh(jnp.sum(h, axis=0) @ p["read"]) @ p["out"]

    shapes = {
        "in": (2, 6), "message": ((14, 5), (5,)), "update": (11, 6), "read": (6, 4), "out": (4, 2),
    }  # fmt: skip
    return fn, draw(key, shapes), (*data(key, (5, 2), (7, 2)), SENDERS, RECEIVERS)


@case("raw/graph_segment_softmax", group=((2, 1), (3, 2)))
def graph_segment_softmax(key):
    # Attention along edges normalised per receiver: S_2 heads, S_3 dims of each.
    def fn(p, nodes):
        h = (nodes @ p["w"]).reshape(-1, 2, 3)
        score = jnp.sum(h[SENDERS] * p["a"], -1) + jnp.sum(h[RECEIVERS] * p["b"], -1)
        score = jax.nn.silu(score)
        score = jnp.exp(score - jax.ops.segment_max(score, RECEIVERS, 5)[RECEIVERS])
        weight = score / jax.ops.segment_sum(score, RECEIVERS, 5)[RECEIVERS]
        z = jnp.zeros_like(h).at[RECEIVERS].add(weight[..., None] * h[SENDERS])
        return jnp.tanh(z.reshape(-1, 6)) @ p["out"]

    shapes = {"w": (2, 6), "a": (2, 3), "b": (2, 3), "out": (6, 2)}
    return fn, draw(key, shapes), data(key, (5, 2))


@case("raw/graph_adjacency", group=((6, 1), (5, 1)))
def graph_adjacency(key):
    # S_6 and S_5: layers of a graph convolution with a normalised adjacency matrix.
    def fn(p, x, a):
        a = jax.nn.sigmoid(a) + jnp.eye(x.shape[0], dtype=x.dtype)
        a = a / jnp.sqrt(jnp.outer(a.sum(0), a.sum(1)))
        h = jnp.tanh(a @ x @ p["w0"])
        return a @ jnp.tanh(a @ h @ p["w1"]) @ p["out"]

    return fn, draw(key, {"w0": (3, 6), "w1": (6, 5), "out": (5, 2)}), data(key, (4, 3), (4, 4))


@case("raw/deep_set", group=((6, 1), (5, 1), (4, 1)))
def deep_set(key):
    # S_6 and S_5 of the element network, the latter read as sum, maximum and deviation; S_4 after.
    def fn(p, x):
        h = jnp.sin(jnp.tanh(affine(p["a"], x)) @ p["b"])
        z = jnp.concatenate([h.sum(-2), h.max(-2), h.std(-2)], axis=-1)
        return jnp.tanh(affine(p["c"], z)) @ p["out"]

    shapes = {"a": ((2, 6), (6,)), "b": (6, 5), "c": ((15, 4), (4,)), "out": (4, 2)}
    return fn, draw(key, shapes), data(key, (3, 5, 2))


@case("raw/radial_basis", group=((5, 1),))
def radial_basis(key):
    # S_5: centres, widths and weights.
    def fn(p, x):
        squared = jnp.sum((x[:, None, :] - p["centres"]) ** 2, axis=-1)
        z = jnp.exp(-squared * jnp.exp(p["log_width"]))
        return (z / z.sum(-1, keepdims=True)) @ p["out"]

    shapes = {"centres": (5, 3), "log_width": (5,), "out": (5, 2)}
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/spline_edges", group=((4, 1),))
def spline_edges(key):
    # S_4 hidden nodes of a network whose edges carry functions on a fixed grid.
    def layer(p, x):
        grid = jnp.linspace(-2.0, 2.0, 5).astype(x.dtype)
        bumps = jnp.exp(-((x[..., None] - grid) ** 2))
        return jnp.einsum("big,iog->bo", bumps, p["spline"]) + jax.nn.silu(x) @ p["base"]

    def fn(p, x):
        return layer(p[1], layer(p[0], x))

    shapes = [{"spline": (i, o, 5), "base": (i, o)} for i, o in ((3, 4), (4, 2))]
    return fn, draw(key, shapes), data(key, (8, 3))


@case("raw/capsules", group=((3, 1), (4, 3), (2, 1)))
def capsules(key):
    # 3 inner capsules of 4 dims (S_3, S_4^3); routed by agreement to 5 outputs, read by norms of
    # votes of 2 dims that all votes share with one readout (S_2).
    def fn(p, x):
        inner = jnp.tanh(jnp.einsum("bd,dck->bck", x, p["in"]))
        votes = jnp.einsum("bck,ckoj->bcoj", inner, p["vote"])
        logits = jnp.zeros(votes.shape[:3], x.dtype)
        for _ in range(2):
            out = jnp.einsum("bco,bcoj->boj", jax.nn.softmax(logits, axis=2), votes)
            out = out / (1 + jnp.sum(out**2, axis=-1, keepdims=True))
            logits = logits + jnp.einsum("boj,bcoj->bco", out, votes)
        return out @ p["read"]

    shapes = {"in": (3, 3, 4), "vote": (3, 4, 5, 2), "read": (2,)}
    return fn, draw(key, shapes), data(key, (6, 3))
