"""BEND: ensembles of networks that a diffusion model draws.

The recipe of J. Wei, X. Zhang, W. Pedrycz, "BEND: bagging deep learning training based on efficient neural
network diffusion", 2024: an autoencoder and latent diffusion of all weights of networks that were trained
separately; many networks are drawn, and their answers are averaged or put to the vote. The gain stands beside
that of an ensemble of as many training networks in ``wsljax.generation.evaluation``; without that, it says
little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..diffusion import Diffusion
from ..generator import Generator
from .p_diff import p_diff

WAYS = ("probabilities", "votes", "outputs")


class Ensemble(eqx.Module):
    """Networks that answer together.

    Attributes:
        params: stacked networks.
        fn: ``fn(params, *inputs)``, of one network: scores ``(examples, classes)``, or any array where
            outputs are averaged.
        by: ``"probabilities"``: the mean of the softmax of the scores; ``"votes"``: the share of networks
            that have a class first; ``"outputs"``: the mean of the outputs, for regression.

    Example:
        >>> fn = lambda p, x: x @ p["w"]
        >>> four = {"w": jnp.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]], [[2.0, 0.0]]])}
        >>> Ensemble(four, fn, "votes")(jnp.ones((1, 1))).tolist()
        [[0.75, 0.25]]
    """

    params: Any
    fn: Callable[..., jax.Array] = eqx.field(static=True)
    by: str = eqx.field(static=True, default="probabilities")

    def __check_init__(self):
        if self.by not in WAYS:
            raise ValueError(f"`by` is {self.by!r}; it is one of {WAYS}")

    def __call__(self, *inputs: Any) -> jax.Array:
        """What they say, ``(examples, classes)`` or as the function gives it."""
        outputs = eqx.filter_vmap(self.fn, in_axes=(eqx.if_array(0), *(None for _ in inputs)))(
            self.params, *inputs
        )
        if self.by == "votes":
            first = jax.nn.one_hot(jnp.argmax(outputs, -1), outputs.shape[-1], dtype=outputs.dtype)
            return jnp.mean(first, axis=0)
        return jnp.mean(jax.nn.softmax(outputs) if self.by == "probabilities" else outputs, axis=0)


def bend(population: Any, *, key: jax.Array, **options: Any) -> Diffusion:
    """A generator to be fitted to the same population, for :func:`draw_ensemble`.

    Args:
        population: networks that were trained separately, as on resampled data; all leaves are generated.
        key: of the autoencoder and of the initial weights.
        **options: of ``p_diff``.
    """
    return p_diff(population, key=key, **options)


def draw_ensemble(
    generator: Generator,
    key: jax.Array,
    n: int,
    fn: Callable[..., jax.Array],
    *,
    by: str = "probabilities",
    **options: Any,
) -> Ensemble:
    """Draw an ensemble of networks from any generator; none of them is selected.

    Args:
        generator: of any family.
        key: a typed key.
        n: how many networks.
        fn, by: see :class:`Ensemble`.
        **options: of ``generator.sample``.

    Example:
        >>> from wsljax.generation.baselines import LeafGaussian
        >>> model = LeafGaussian({"w": jax.random.normal(jax.random.key(0), (5, 4, 3))})
        >>> some = draw_ensemble(model, jax.random.key(1), 7, lambda p, x: x @ p["w"])
        >>> some(jnp.ones((2, 4))).shape
        (2, 3)
    """
    return Ensemble(generator.sample(key, n, **options), fn, by)
