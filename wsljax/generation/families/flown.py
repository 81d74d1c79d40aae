"""FLoWN: flow matching on the latents of networks, told which data set they are for.

After D. Saragih et al., "Flows and diffusions on the neural manifold", 2025: an autoencoder of weights is
trained first, and a conditional flow generates its latents; the condition is what a set encoder makes of a few
examples of the task. The code of the paper was not public; widths and steps are ours.
"""

from __future__ import annotations

from typing import Any

import jax

from ..couplings import MinibatchTransport
from ..denoisers import FlatDenoiser
from ..flow import Flow
from ..samplers import Euler
from ..spaces.space import Space, checked


def flown(
    space: Space,
    *,
    key: jax.Array,
    conditioner: Any = None,
    width: int = 512,
    layers: int = 4,
    transport: bool = True,
    steps: int = 100,
) -> Flow:
    """A generator to be fitted to the population that the space was made for.

    Args:
        space: the latents of an autoencoder, from ``wsljax.generation.autoencoders.latent_space``; any
            other space will do.
        key: of the initial weights.
        conditioner: what the flow is told of a task, ``SetCondition`` in the paper; None for no
            condition.
        width, layers: of the residual perceptron.
        transport: whether noise and latents of a batch are paired by optimal transport. Pairs follow latents
            and not conditions, so it is left out where there is a condition.
        steps: of the sampler.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.generation.spaces import FlatSpace
        >>> space = FlatSpace.fit({"w": jnp.zeros((5, 2, 3))})
        >>> flown(space, key=jax.random.key(0), width=8, steps=3).sample(jax.random.key(1), 4)["w"].shape
        (4, 2, 3)
    """
    told = {} if conditioner is None else {"told": conditioner.size, "beside": conditioner.beside}
    net = FlatDenoiser(checked(space).like, width, layers, key=key, **told)
    coupling = MinibatchTransport() if transport and conditioner is None else None
    return Flow(net, space, coupling=coupling, sampler=Euler(steps), conditioner=conditioner)
