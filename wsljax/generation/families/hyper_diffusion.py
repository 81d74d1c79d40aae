"""HyperDiffusion: a transformer on the arrays of a network, one token each, that says the network itself.

The recipe of Z. Erkoç et al., "HyperDiffusion: generating implicit neural fields with weight-space diffusion",
2023, and its code: weights and biases of every layer are tokens, each with a map in and a map out of its own;
DDPM with 500 steps; the target is the network, not the noise; DDIM draws it. Published nets all start from the
fitted weights of the first one, and are not normalised (``normalise=False``).

What differs: weights are normalised per block (units that may be exchanged alike) unless told otherwise; blocks
of the transformer are modulated by the level, where theirs has the level as a token; width and depth are small
by default (published: 2,880 and 12). Nothing that is drawn is rejected.
"""

from __future__ import annotations

from typing import Any

import jax

from ...zoo.chunks import take_models
from ..denoisers import TokenTransformer
from ..diffusion import Diffusion
from ..processes import VariancePreserving
from ..samplers import DDIM
from ..spaces import IdentitySpace, Space, WeightSpace


def hyper_diffusion(
    population: Any,
    *,
    key: jax.Array,
    width: int = 256,
    layers: int = 6,
    heads: int | None = None,
    normalise: bool = True,
    steps: int = 100,
    conditioner: Any = None,
) -> Diffusion:
    """A generator to be fitted to the same population.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        key: of the initial weights.
        width, layers, heads: of the transformer.
        normalise: whether weights are normalised.
        steps: of the sampler, at most 500.
        conditioner: of ``wsljax.generation.conditions``, or None.

    Example:
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (9, 3, 2))}
        >>> model = hyper_diffusion(zoo, key=jax.random.key(1), width=8, layers=1, steps=2)
        >>> model.sample(jax.random.key(2), 4)["w"].shape
        (4, 3, 2)
    """
    space: Space
    if normalise:
        space = WeightSpace.fit(population)
    else:
        space = IdentitySpace(take_models(getattr(population, "params", population), 0))
    told = {} if conditioner is None else {"told": conditioner.size, "beside": conditioner.beside}
    net = TokenTransformer.on_trees(
        space.like, width, layers, pieces=None, heads=heads, key=key, **told
    )
    return Diffusion(
        net,
        space,
        path=VariancePreserving.linear(500),
        target="data",
        sampler=DDIM(steps),
        conditioner=conditioner,
    )
