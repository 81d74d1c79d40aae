"""GPD: diffusion of networks that are told a graph: of an architecture, or of what their data are about.

The recipe of Y. Yuan et al., "Spatio-temporal few-shot learning via diffusive neural network generation" (GPD),
2024: a network is cut into pieces of one length, each a token of a transformer; DDPM, trained to say the noise;
every token is told a prompt made of the graph around the place that the network is for.

What differs: the graph is encoded by message passing that is trained with the denoiser, where theirs is
embedded before; it modulates the transformer; and it is hidden now and then, so that samples can be guided.
With ``architecture_graph`` the graph is that of a network's own architecture: smaller networks are padded with
zeros to the shapes of the largest, and the graph tells which of their units are there.
"""

from __future__ import annotations

from typing import Any

import jax

from ..conditions import ARCHITECTURE_FEATURES, Condition, Dropped, GraphCondition
from ..denoisers import TokenTransformer
from ..diffusion import Diffusion
from ..processes import VariancePreserving
from ..samplers import DDIM
from ..spaces import WeightSpace


def gpd(
    population: Any,
    conditioner: Condition | None = None,
    *,
    key: jax.Array,
    features: int = ARCHITECTURE_FEATURES,
    size: int = 64,
    width: int = 256,
    layers: int = 4,
    pieces: int | None = 256,
    drop: float = 0.1,
    steps: int = 100,
) -> Diffusion:
    """A generator to be fitted to the same population and its graphs, ``Graph`` of arrays ``(networks, ...)``.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        conditioner: what it is told; by default a ``GraphCondition``, to which others can be added by
            ``Conditions``.
        key: of the initial weights.
        features: of a node of the graphs.
        size: of the vector that a graph becomes.
        width, layers: of the transformer.
        pieces: how many weights a token holds at most; None for one token an array.
        drop: how often the condition is hidden in training.
        steps: of the sampler, at most 500.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.generation.conditions import Graph
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (9, 3, 2))}
        >>> model = gpd(zoo, key=jax.random.key(1), features=5, width=8, layers=1, pieces=4, steps=2)
        >>> graphs = Graph(jnp.ones((4, 3, 5)), jnp.ones((4, 3, 3)))
        >>> model.sample(jax.random.key(2), 4, condition=graphs)["w"].shape
        (4, 3, 2)
    """
    net_key, graph_key, drop_key = jax.random.split(key, 3)
    if conditioner is None:
        conditioner = GraphCondition(features, size, key=graph_key)
    if drop:
        conditioner = Dropped(conditioner, drop, key=drop_key)
    space = WeightSpace.fit(population)
    net = TokenTransformer.on_trees(
        space.like,
        width,
        layers,
        pieces=pieces,
        key=net_key,
        told=conditioner.size,
        beside=conditioner.beside,
    )
    return Diffusion(
        net,
        space,
        path=VariancePreserving.linear(500),
        target="noise",
        sampler=DDIM(steps),
        conditioner=conditioner,
    )
