"""What predicts a network's accuracy from its weights: the equivariant metanetwork and a flat one."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from wsljax.representation import InvariantPool, Trunk, build_trunk
from wsljax.symmetry import Spec


class Scale(eqx.Module):
    """Accuracies to standardised logits and back, from the training networks alone."""

    mean: jax.Array
    deviation: jax.Array

    @staticmethod
    def of(accuracy: jax.Array) -> Scale:
        logit = _logit(accuracy)
        return Scale(jnp.mean(logit), jnp.std(logit))

    def forward(self, accuracy: jax.Array) -> jax.Array:
        return (_logit(accuracy) - self.mean) / self.deviation

    def back(self, score: jax.Array) -> jax.Array:
        return 1.02 * jax.nn.sigmoid(score * self.deviation + self.mean) - 0.01


def _logit(accuracy: jax.Array) -> jax.Array:
    return jnp.log((accuracy + 0.01) / (1.01 - accuracy))


def block_features(spec: Spec, params: Any, sizes: dict[str, float]) -> dict[str, jax.Array]:
    """Three channels a weight: relative to its block, on a logarithmic scale, and the block's size."""
    out = {}
    for name, x in spec.blocks(params).items():
        square = jnp.mean(x**2) + 1e-8 * sizes[name] ** 2
        log = jnp.sign(x) * jnp.log1p(jnp.abs(x) / (0.1 * sizes[name]))
        size = jnp.full_like(x, 0.5 * jnp.log(square / sizes[name] ** 2))
        out[name] = jnp.stack([x / jnp.sqrt(square), log, size], axis=-1)
    return out


class AccuracyNet(eqx.Module):
    """Universal equivariant layers, invariant pooling and a head: one number a network."""

    trunk: Trunk
    pool: InvariantPool
    head: eqx.nn.MLP
    straight: eqx.nn.Linear
    mean: jax.Array
    deviation: jax.Array
    spec: Spec = eqx.field(static=True)
    sizes: tuple[tuple[str, float], ...] = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self, spec: Spec, sample: Any, *, channels: int, layers: int, dropout: float, key: jax.Array
    ):
        """`sample` is a stack of training networks, from which scales are read."""
        keys = jax.random.split(key, 3)
        blocks = jax.vmap(spec.blocks)(sample)
        self.spec, self.dropout = spec, dropout
        self.sizes = tuple((n, float(jnp.sqrt(jnp.mean(x**2)))) for n, x in blocks.items())
        self.trunk = build_trunk("universal", spec, channels, layers, c_in=3, key=keys[0])
        self.pool = InvariantPool(spec, statistics=("mean", "square"))
        width = self.pool.size(channels)
        self.head = eqx.nn.MLP(width, 1, 64, depth=1, activation=jax.nn.gelu, key=keys[1])
        self.straight = eqx.nn.Linear(width, 1, key=keys[2])
        self.mean, self.deviation = jnp.zeros(width), jnp.ones(width)
        pooled = eqx.filter_jit(lambda net, p: jax.vmap(net.pooled)(p))(self, sample)
        self.mean, self.deviation = jnp.mean(pooled, axis=0), jnp.std(pooled, axis=0) + 1e-2

    def pooled(self, params: Any, noise: jax.Array | None = None) -> jax.Array:
        """Invariant features `(width,)` of one network."""
        if noise is not None:
            params = jax.tree.map(jnp.multiply, params, noise)
        return self.pool(self.trunk(block_features(self.spec, params, dict(self.sizes))))

    def __call__(
        self, params: Any, noise: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """The standardised logit of the accuracy of one network."""
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        x = (self.pooled(params, noise) - mean) / deviation
        if key is not None and self.dropout:
            x *= jax.random.bernoulli(key, 1 - self.dropout, x.shape) / (1 - self.dropout)
        return (self.head(x) + self.straight(x))[0]


class FlatNet(eqx.Module):
    """The baseline that knows no symmetry: an MLP on all weights in one vector, standardised."""

    mlp: eqx.nn.MLP
    mean: Any
    deviation: Any
    dropout: float = eqx.field(static=True)

    def __init__(self, sample: Any, *, dropout: float, key: jax.Array):
        size = sum(x[0].size for x in jax.tree.leaves(sample))
        self.mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), sample)
        self.deviation = jax.tree.map(lambda x: jnp.std(x, axis=0) + 1e-6, sample)
        self.mlp = eqx.nn.MLP(size, 1, 256, depth=2, activation=jax.nn.gelu, key=key)
        self.dropout = dropout

    def __call__(self, params: Any, noise=None, key: jax.Array | None = None) -> jax.Array:
        if noise is not None:
            params = jax.tree.map(jnp.multiply, params, noise)
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        scaled = jax.tree.map(lambda x, m, s: (x - m) / s, params, mean, deviation)
        x = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(scaled)])
        if key is not None and self.dropout:
            x *= jax.random.bernoulli(key, 1 - self.dropout, x.shape) / (1 - self.dropout)
        return self.mlp(x)[0]
