"""The layer of ScaleGMN: nodes hear the pieces at them, then pieces hear their nodes.

Kalogeropoulos, Bouritsas, Panagakis, *Scale Equivariant Graph Metanetworks*, 2024; see
:mod:`~..methods.scale_gmn` for what odd and even features are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..universal.initial import normals
from .messages import Group, Plan, at_site, message, outer, plan, rms

Weights = dict[str, dict[str, jax.Array]]


@partial(
    jax.tree_util.register_dataclass, data_fields=["odd", "even", "nodes"], meta_fields=["spec"]
)
@dataclass(frozen=True)
class State:
    """Features between two layers.

    Attributes:
        odd: of each group of pieces that flips (else None), ``(members, *indices, C)``.
        even: of each group.
        nodes: of each stack of streams.
        spec: annotation of the weights.
    """

    odd: tuple[jax.Array | None, ...]
    even: tuple[jax.Array, ...]
    nodes: tuple[jax.Array, ...]
    spec: Spec


class ScaleGMNLayer(eqx.Module):
    """One round of messages: nodes from pieces, then pieces from nodes.

    Attributes:
        weights: by role of the pieces and for ``"nodes"``; no width and no depth is in any.
        bidirectional: whether messages go against the direction of the computation as well.
        activation: a function of single numbers, of even features.
    """

    weights: Weights
    bidirectional: bool = eqx.field(static=True)
    activation: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, x: State) -> State:
        found = plan(x.spec, False)
        w = jax.tree.map(lambda a: a.astype(x.even[0].dtype), self.weights)
        normed = State(
            tuple(None if a is None else rms(a) for a in x.odd),
            tuple(map(rms, x.even)),
            tuple(map(rms, x.nodes)),
            x.spec,
        )
        nodes = self._nodes(found, w, x, normed) if x.nodes else ()
        now = tuple(map(rms, nodes))
        odd, even = [], []
        for n, g in enumerate(found.groups):
            a, b = self._pieces(found, g, w[g.role], normed.odd[n], normed.even[n], now)
            before = x.odd[n]
            odd.append(None if a is None or before is None else before + a)
            even.append(x.even[n] + b)
        return State(tuple(odd), tuple(even), nodes, x.spec)

    def _nodes(self, found: Plan, w: Weights, x: State, normed: State) -> tuple[jax.Array, ...]:
        channels, dtype = x.even[0].shape[-1], x.even[0].dtype
        news = list(found.zeros(channels, dtype))
        for n, g in enumerate(found.groups):
            own = w[g.role]
            for to, receives in enumerate(g.receives):
                if not (receives or self.bidirectional or len(g.sites) == 1):
                    continue
                others = [k for k in range(len(g.sites)) if k != to]
                even = {
                    k: 1 + found.gather(normed.nodes, g.neutral[k]) @ own["send"][k] for k in others
                }
                y = message(g, normed.even[n], even, to) @ own["receive"][to]
                found.add(news, g.neutral[to], y)
                flips = normed.odd[n]
                if flips is not None:
                    factors = {k: _sent(found, g, k, own, normed.nodes) for k in others}
                    y = message(g, flips, factors, to) @ own["receive odd"][to]
                    found.add(news, g.streams[to], y)
        own = w["nodes"]
        hidden: list[Any] = [None] * len(found.stacks)
        for k, (charged, _) in enumerate(found.kinds):
            if not charged:
                hidden[k] = normed.nodes[k] @ own["in"] + rms(news[k])
        whole = rms(sum(_whole(a) for a in hidden if a is not None)) @ own["whole"]  # type: ignore[arg-type]
        streams = {s: n for n, s in enumerate(found.streams)}
        beside = [streams[labels, ()] for labels, _ in found.streams]
        for k, (charged, _) in enumerate(found.kinds):
            if charged:
                pairs = (normed.nodes[k] @ own["left"]) * (normed.nodes[k] @ own["right"])
                pairs = pairs + (rms(news[k]) @ own["new left"]) * (
                    normed.nodes[k] @ own["new right"]
                )
                found.add(hidden, [beside[s] for s in found.stacks[k]], pairs)
        out = []
        for k, (charged, _) in enumerate(found.kinds):
            if not charged:
                h = hidden[k] + whole.reshape((1,) * (hidden[k].ndim - 1) + (-1,))
                out.append(x.nodes[k] + self.activation(h) @ own["out"])
            else:
                out.append(x.nodes[k])
        for k, (charged, _) in enumerate(found.kinds):
            if charged:
                even = found.gather(out, [beside[s] for s in found.stacks[k]])
                gate = 2 * jax.nn.sigmoid(rms(even) @ own["gate"])
                out[k] = x.nodes[k] + (normed.nodes[k] @ own["odd"] + rms(news[k])) * gate
        return tuple(out)

    def _pieces(
        self,
        found: Plan,
        g: Group,
        w: dict[str, jax.Array],
        odd: jax.Array | None,
        even: jax.Array,
        nodes: tuple[jax.Array, ...],
    ) -> tuple[jax.Array | None, jax.Array]:
        h = even @ w["in"]
        for k in range(len(g.sites)):
            h = h + at_site(g, k, found.gather(nodes, g.neutral[k]) @ w["from"][k])
        if not g.sites and nodes:
            h = h + sum(_whole(a) for a, (c, _) in zip(nodes, found.kinds) if not c) @ w["whole"]
        new = None
        if odd is not None:
            factors = {
                k: _sent(found, g, k, w, nodes) for k, charged in enumerate(g.charged) if charged
            }
            product = outer(g, factors)
            assert product is not None
            new = odd @ w["odd"] + product @ w["product"]
            h = h + (odd @ w["left"]) * (odd @ w["right"])
            h = h + (odd * product) @ w["along"]
        h = self.activation(h)
        if new is not None:
            new = new * (2 * jax.nn.sigmoid(h @ w["gate"]))
        return new, h @ w["out"]


def _sent(found: Plan, g: Group, k: int, w: dict[str, jax.Array], nodes) -> jax.Array:
    """What a site multiplies odd features by: odd where the piece flips there."""
    if g.charged[k]:
        return found.gather(nodes, g.streams[k]) @ w["send odd"][k]
    return 1 + found.gather(nodes, g.neutral[k]) @ w["send odd"][k]


def _whole(x: jax.Array) -> jax.Array:
    """The mean of a stack over all but channels, as a stack of one."""
    return jnp.mean(x, axis=tuple(range(x.ndim - 1)))[None]


def layer_weights(spec: Spec, channels: int, layers: int, key: jax.Array, dtype) -> Weights:
    """Initial weights; what a layer adds is smaller the more layers there are, so that sums keep a size."""
    found = plan(spec, False)
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    square = (channels, channels)
    for g in found.groups:
        n = len(g.sites)
        names = {"in": square, "out": square}
        if n:
            names |= {"from": (n, *square), "receive": (n, *square)}
            names |= {"send": (n, *square)} if n > 1 else {}
        elif found.stacks:
            names |= {"whole": square}
        if g.flips:
            names |= {s: (n, *square) for s in ("send odd", "receive odd")}
            names |= {s: square for s in ("odd", "product", "left", "right", "along", "gate")}
        shapes |= {(g.role, name): shape for name, shape in names.items()}
    if found.stacks:
        names = ["in", "out", "whole"]
        if found.flips:
            names += ["left", "right", "new left", "new right", "gate", "odd"]
        shapes |= {("nodes", name): square for name in names}
    draws = normals(key, tuple(shapes.values()), dtype)
    out: Weights = {}
    for (role, name), x in zip(shapes, draws, strict=True):
        size = channels * (layers if name in ("out", "odd", "product") else 1)
        out.setdefault(role, {})[name] = x / jnp.asarray(size**0.5, dtype)
    return out
