"""D2NWG: latent diffusion of networks, told the data set that they are for.

The recipe of B. Soro et al., "Diffusion-based neural network weights generation", 2024: a variational
autoencoder of flat weights (divergence 1e-6), a set encoder of the data set whose vector is brought together
with the latents of the networks trained on it, contrastively, and DDPM on the latents with that vector as
condition.

What differs: convolutions are those of p-diff's autoencoder, without padding to a fixed size; the encoder of
data sets goes on being trained with the denoiser, where the published one is kept; and the condition is hidden
now and then, so that samples can be guided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import train
from ..conditions import Condition, Dropped
from ..denoisers import FlatUNet
from ..denoisers.levels import Linear
from ..diffusion import Diffusion
from ..processes import VariancePreserving
from ..samplers import DDIM
from ..spaces import Space
from .latents import flat_latents


def d2nwg(
    population: Any,
    conditioner: Condition,
    *,
    key: jax.Array,
    space: Space | None = None,
    channels: Sequence[int] = (64, 128, 256),
    drop: float = 0.1,
    steps: int = 100,
    autoencoder: Mapping[str, Any] | None = None,
) -> Diffusion:
    """A generator to be fitted to the same population and its data sets.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        conditioner: ``SetCondition``; brought together with the latents by :func:`match_conditions`, as
            published, or fresh.
        key: of the autoencoder and of the initial weights.
        space: latents that were made before, by ``flat_latents``; by default they are made here.
        channels: of the denoiser.
        drop: how often the condition is hidden in training.
        steps: of the sampler.
        autoencoder: arguments of ``flat_latents``.

    Raises:
        ValueError: both latents and arguments for making them.

    Example:
        >>> from wsljax.generation.conditions import SetCondition
        >>> from wsljax.generation.spaces import FlatSpace
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (12, 3, 2))}
        >>> data = SetCondition((2,), 8, channels=8, layers=1, points=2, key=jax.random.key(1))
        >>> latents = FlatSpace.fit(zoo)
        >>> model = d2nwg(zoo, data, key=jax.random.key(2), space=latents, channels=(4,), steps=2)
        >>> model.sample(jax.random.key(3), 4, condition=jnp.ones((4, 6, 2)))["w"].shape
        (4, 3, 2)
    """
    latent_key, net_key, drop_key = jax.random.split(key, 3)
    if space is not None and autoencoder is not None:
        raise ValueError("give the latents, `space`, or how to make them, `autoencoder`, not both")
    if space is None:
        options = {"kl": 1e-6, "latent_noise": 0.0, **(autoencoder or {})}
        space = flat_latents(population, key=latent_key, **options)
    told = Dropped(conditioner, drop, key=drop_key) if drop else conditioner
    net = FlatUNet(space.like, channels, key=net_key, told=told.size, beside=told.beside)
    return Diffusion(
        net,
        space,
        path=VariancePreserving.linear(1000),
        target="noise",
        sampler=DDIM(steps),
        conditioner=told,
    )


class Matched(NamedTuple):
    """What :func:`match_conditions` returns.

    Attributes:
        conditioner: trained.
        history: ``loss``, and ``found``: how often a network's own data set is the nearest in its batch.
    """

    conditioner: Any
    history: list[dict[str, float]]


class _Pair(eqx.Module):
    conditioner: Condition
    networks: Linear
    sharpness: jax.Array


def match_conditions(
    conditioner: Condition,
    space: Space,
    population: Any,
    conditions: Any,
    *,
    key: jax.Array,
    steps: int,
    batch_size: int,
    optimiser: optax.GradientTransformation,
) -> Matched:
    """Bring the vectors of conditions together with the latents of their networks, and apart from others.

    The loss is that of Radford et al., "Learning transferable visual models from natural language
    supervision", 2021: the cross entropy of finding each one's partner in the batch, both ways.

    Args:
        conditioner: gives vectors.
        space: with arrays as ``x``: latents of an autoencoder.
        population: training networks, a ``Population`` or stacked weights.
        conditions: one raw condition for each network, a tree of arrays ``(networks, ...)``.
        key, steps, batch_size, optimiser: of ``train.fit``. Networks of one and the same condition in one
            batch pass for strangers: keep batches small beside the number of conditions.

    Raises:
        ValueError: a condition without a vector.
    """
    if conditioner.size is None:
        raise ValueError("the condition gives no vector: there is nothing to be matched")
    x = space.encode_all(getattr(population, "params", population))
    x = x.reshape(len(x), -1)
    map_key, fit_key = jax.random.split(key)
    pair = _Pair(
        conditioner,
        Linear(x.shape[1], conditioner.size, key=map_key),
        jnp.log(jnp.asarray(1 / 0.07)),
    )

    def loss(pair: _Pair, batch: Any, *, key: jax.Array) -> Any:
        latents, raw = batch
        told = jax.vmap(lambda one: cast(jax.Array, pair.conditioner(one).vector))(raw)
        a, b = (
            v * jax.lax.rsqrt(jnp.sum(v * v, -1, keepdims=True) + 1e-12)
            for v in (told, pair.networks(latents))
        )
        scores = jnp.exp(jnp.minimum(pair.sharpness, jnp.log(100.0))) * a @ b.T
        own = jnp.arange(len(scores))
        both = [
            optax.softmax_cross_entropy_with_integer_labels(s, own).mean()
            for s in (scores, scores.T)
        ]
        found = jnp.mean(jnp.argmax(scores, axis=0) == own)
        return (both[0] + both[1]) / 2, {"found": found}

    raw = jax.tree.map(jnp.asarray, conditions)
    found = train.fit(
        loss,
        pair,
        (x, raw),
        steps=steps,
        batch_size=batch_size,
        optimiser=optimiser,
        key=fit_key,
        every=max(1, steps // 10),
    )
    return Matched(found.model.conditioner, found.history)
