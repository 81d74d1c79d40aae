"""What predicts a network's accuracy from its weights: the equivariant metanetwork and baselines."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsljax.representation import InvariantPool, Trunk
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
        self.trunk = Trunk(spec, channels, layers, c_in=3, key=keys[0])
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


def weight_statistics(params: Any, *, per_layer: bool) -> np.ndarray:
    """Mean, variance and the quantiles 0, 25, 50, 75, 100, `(networks, 7)` or `(networks, 7 leaves)`.

    Unterthiner et al., "Predicting neural network accuracy from weights", 2020.
    """
    flat = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(params)]
    groups = flat if per_layer else [np.concatenate(flat, axis=1)]
    columns = []
    for x in groups:
        quantiles = np.quantile(x, [0, 0.25, 0.5, 0.75, 1], axis=1)
        columns += [x.mean(axis=1), x.var(axis=1), *quantiles]
    return np.stack(columns, axis=1)


def boosted_trees(train_x, train_y, test_x, *, seed: int) -> np.ndarray:
    """Predictions of gradient-boosted trees (scikit-learn)."""
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        n_estimators=300, max_depth=4, subsample=0.7, learning_rate=0.05, random_state=seed
    )
    return model.fit(train_x, train_y).predict(test_x)
