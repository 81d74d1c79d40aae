"""RPG: recurrent parameter generation, as a distribution over networks.

After K. Wang et al., "Recurrent diffusion for large-scale parameter generation" (RPG), 2025: weights are
normalised leaf by leaf and cut into tokens; a recurrent network goes over the tokens, and a small diffusion
model draws each of them given the recurrent state; DDPM with 1,000 steps, trained to say the noise.

What differs is where networks come from. The published recurrent network never reads a token: it is given
positions and a learned row of a table that has one row for each training checkpoint, so that drawing a network
is looking up a checkpoint, and tokens are independent given its number. Here it reads the tokens before (in
sampling those that were drawn), no row of any network is stored, and the same model can be conditioned. The
recurrence is a gated linear one (theirs: Mamba); tokens are output channels (theirs: 8,192 weights of a layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from ..denoisers import FlatDenoiser, FlatUNet
from ..processes import VariancePreserving
from ..recurrent import Memory, RecurrentDiffusion
from ..samplers import DDIM
from ..spaces import TokenSpace, WeightSpace, fit_spaces


def rpg(
    population: Any,
    *,
    key: jax.Array,
    kind: str = "channel",
    width: int | None = None,
    channels: int = 256,
    layers: int = 2,
    denoiser: int | Sequence[int] = 256,
    blocks: int = 3,
    steps: int = 50,
    conditioner: Any = None,
) -> RecurrentDiffusion:
    """A generator to be fitted to the same population.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        key: of the initial weights.
        kind, width: of the tokens, as for ``TokenSpace``.
        channels, layers: of the recurrent network.
        denoiser: width of the residual perceptron that denoises a token, or the channels of a
            1-D convolutional one, as published.
        blocks: of the perceptron.
        steps: of the sampler, for each token.
        conditioner: of ``wsljax.generation.conditions``, without networks beside; or None.

    Example:
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (9, 3, 4))}
        >>> model = rpg(zoo, key=jax.random.key(1), channels=8, layers=1, denoiser=8, blocks=1, steps=2)
        >>> model.space.like.shape, model.sample(jax.random.key(2), 5)["w"].shape
        ((4, 3), (5, 3, 4))
    """
    net_key, memory_key = jax.random.split(key)
    space = fit_spaces(population, WeightSpace.fit, partial(TokenSpace.fit, kind=kind, width=width))
    tokens = space.spaces[-1]
    assert isinstance(tokens, TokenSpace)
    like = jax.ShapeDtypeStruct(space.like.shape[1:], space.like.dtype)
    if isinstance(denoiser, int):
        net: Any = FlatDenoiser(like, denoiser, blocks, key=net_key, told=channels)
    else:
        net = FlatUNet(like, denoiser, key=net_key, told=channels)
    memory = Memory(
        like.shape[0],
        channels,
        layers,
        key=memory_key,
        positions=tokens.tokeniser.positions,
        told=None if conditioner is None else conditioner.size,
    )
    return RecurrentDiffusion(
        net,
        memory,
        space,
        path=VariancePreserving.linear(1000),
        sampler=DDIM(steps),
        conditioner=conditioner,
    )
