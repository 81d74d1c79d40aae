"""DeepWeightFlow: flow matching on aligned flat weights, by a multilayer perceptron.

The recipe of S. Gupta et al., "DeepWeightFlow: re-basined flow matching for generating neural network weights", ICLR
2026: networks aligned to one of them, flat or in the principal components of the training set (which span no more
than its affine hull), velocity as the target, narrow noise, and Runge-Kutta steps. The published code draws its
noise from a table of 100 vectors that is made once; ``source="fixed"`` does the same, and samples then are as many
as the table has rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..denoisers import FlatDenoiser
from ..flow import Flow, NormalSource
from ..processes.trees import combine, normal_like
from ..samplers import RungeKutta4
from ..spaces import CanonicalSpace, FlatSpace, PrincipalSpace, fit_spaces


class TableSource(eqx.Module):
    """Noise out of a table that was drawn once.

    Attributes:
        rows: a tree like ``x`` with a leading axis.
    """

    rows: Any

    def __call__(self, key: jax.Array, like: Any) -> Any:
        """A row, drawn uniformly."""
        count = jax.tree.leaves(self.rows)[0].shape[0]
        index = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda x: x[index], self.rows)


def deep_weight_flow(
    population: Any,
    *,
    key: jax.Array,
    width: int = 512,
    layers: int = 2,
    align: bool = True,
    components: int | float | None = None,
    source: str = "fresh",
    deviation: float = 0.01,
    rows: int = 100,
    sigma: float = 1e-3,
    steps: int = 99,
    conditioner: Any = None,
) -> Flow:
    """A generator to be fitted to the same population.

    Args:
        population: training networks, a ``Population``; with a spec where they are to be aligned.
        key: of the initial weights, the alignment, and the table of noise.
        width, layers: of the residual perceptron.
        align: whether units are aligned to those of the first network.
        components: how many principal components, or the share of the variance that they hold; None for the
            weights themselves. Batches of networks that were trained from one start need them least.
        source: ``"fresh"`` noise in each step, or noise from a ``"fixed"`` table.
        deviation: of the noise, in units of the weights.
        rows: of the table.
        sigma: of noise on the path, in training.
        steps: of the sampler.
        conditioner: of ``wsljax.generation.conditions``, or None.

    Raises:
        ValueError: another word for ``source``, or a population that cannot be aligned.

    Example:
        >>> from wsljax.zoo import Population
        >>> zoo = Population({"w": jax.random.normal(jax.random.key(0), (20, 3, 2))}, {})
        >>> model = deep_weight_flow(zoo, key=jax.random.key(1), width=8, align=False, components=4)
        >>> model.space.like.shape, model.sample(jax.random.key(2), 5)["w"].shape
        ((4,), (5, 3, 2))
    """
    if source not in ("fresh", "fixed"):
        raise ValueError(f'`source` is {source!r}; it is "fresh" or "fixed"')
    align_key, table_key, net_key = jax.random.split(key, 3)
    fits: list[Any] = []
    if align:
        fits.append(
            partial(CanonicalSpace.fit, key=align_key, scales=False, kinds=("permutation",))
        )
    flat = FlatSpace.fit
    fits.append(flat if components is None else partial(PrincipalSpace.fit, components=components))
    space = fit_spaces(population, *fits)
    last = space.spaces[-1]
    scale: Any = deviation
    if isinstance(last, PrincipalSpace):
        scale = jnp.asarray(deviation, last.scale.dtype) / last.scale
    noise: Any = NormalSource(scale)
    if source == "fixed":
        draw = lambda k: combine(scale, normal_like(k, space.like))  # noqa: E731
        noise = TableSource(jax.vmap(draw)(jax.random.split(table_key, rows)))
    told = {} if conditioner is None else {"told": conditioner.size, "beside": conditioner.beside}
    net = FlatDenoiser(space.like, width, layers, key=net_key, **told)
    return Flow(
        net, space, source=noise, sigma=sigma, sampler=RungeKutta4(steps), conditioner=conditioner
    )
