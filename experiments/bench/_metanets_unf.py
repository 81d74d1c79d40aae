"""The universal layer beside the layer of its authors, imported from a checkout of their repository.

Both get the same blocks with the same labels, one layer, as many channels and networks; both compute
a loss and its gradients in the layer's weights and in the features that come in.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench._metanets_cases import Case, numbered, plain
from experiments.bench._metanets_measure import Program, compiled, count, total
from experiments.bench.linear import random_features
from wsljax import symmetry
from wsljax.representation import UniversalLinear

REPOSITORY = "universal_neural_functional"
CHANNELS, NETWORKS = 16, 4


def authors_layers(peers: Path | None) -> ModuleType | None:
    """The authors' module of layers, or None where there is no checkout."""
    if peers is None or not (peers / REPOSITORY / "layers.py").exists():
        return None
    sys.path.insert(0, str(peers / REPOSITORY))
    try:
        return importlib.import_module("layers")
    finally:
        sys.path.pop(0)


def ours(spec: symmetry.Spec, clock: str) -> Program:
    layer = UniversalLinear(spec, CHANNELS, CHANNELS, key=jax.random.key(0))
    features = random_features(spec, NETWORKS, CHANNELS)

    def loss(layer: UniversalLinear, x: Any) -> jax.Array:
        return total(jax.vmap(layer)(x).arrays)

    fn = jax.value_and_grad(loss, argnums=(0, 1))
    program = compiled(fn, layer, features, clock=clock)
    return program._replace(figures={"parameters": float(count(layer)), **program.figures})


def authors(layers: ModuleType, spec: symmetry.Spec, labels: dict, clock: str) -> Program:
    layer = layers.BatchUNFLayer(CHANNELS, CHANNELS)
    numbers = numbered(labels)
    features = jax.vmap(lambda x: x.blocks())(random_features(spec, NETWORKS, CHANNELS))
    shapes = jax.eval_shape(
        lambda key, x: layer.init(key, x, numbers), jax.random.PRNGKey(0), features
    )
    weights = jax.tree.map(lambda s: 0.01 * jnp.ones(s.shape, s.dtype), shapes)

    def loss(weights: Any, x: Any) -> jax.Array:
        return total(jax.tree.leaves(layer.apply(weights, x, numbers)))

    fn = jax.value_and_grad(loss, argnums=(0, 1))
    program = compiled(fn, weights, features, clock=clock)
    return program._replace(figures={"parameters": float(count(weights)), **program.figures})


def pair(layers: ModuleType | None, case: Case, clock: str = "wall") -> dict[str, Program]:
    """Both sides on one network, `ours` and, where there is a checkout, `authors`."""
    spec, labels = plain(case)
    found = {"ours": ours(spec, clock)}
    if layers is not None:
        found["authors"] = authors(layers, spec, labels, clock)
    return found
