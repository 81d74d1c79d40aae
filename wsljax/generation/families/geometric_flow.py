"""Flows by graph networks in three geometries: flat, normalised, and a product of spheres.

The recipe of the thesis behind ``weightflow`` (flow matching on the weights of ReLU networks by a relational
transformer on their graph): the denoiser says where the path ends, times are drawn near the noise, sources and
networks of a batch are paired by optimal transport. In the geometry of spheres the weights into each hidden unit have
one length and only turn.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from ..couplings import Independent, MinibatchTransport, QuotientTransport
from ..denoisers import EquivariantDenoiser
from ..flow import Flow
from ..processes import BetaTimes
from ..samplers import Euler
from ..spaces import CanonicalSpace, SphereSpace, WeightSpace, fit_spaces

GEOMETRIES = ("euclidean", "normalised", "spheres")
COUPLINGS = ("independent", "minibatch", "quotient")


def geometric_flow(
    population: Any,
    *,
    key: jax.Array,
    geometry: str = "spheres",
    coupling: str = "minibatch",
    align: bool = True,
    channels: int = 32,
    layers: int = 5,
    method: str = "neural_graph_transformer",
    sigma: float = 1e-3,
    steps: int = 100,
    conditioner: Any = None,
    **options: Any,
) -> Flow:
    """A generator to be fitted to the same population.

    Args:
        population: training networks, a ``Population`` with a spec; for all geometries but the flat one with
            scalings among its generators.
        key: of the initial weights, and the alignment.
        geometry: ``"euclidean"`` (weights normalised per block), ``"normalised"`` (the weights into each unit
            have one length, paths are straight), or ``"spheres"`` (paths turn them).
        coupling: ``"independent"``, ``"minibatch"`` optimal transport, or ``"quotient"``, by distances up to the
            exchange of units.
        align: whether units are aligned to those of the first network.
        channels, layers, method, options: of the denoiser; any method of ``wsljax.representation``.
        sigma: of noise on the path, in training; in flat space only.
        steps: of the sampler.
        conditioner: of ``wsljax.generation.conditions``, or None.

    Raises:
        ValueError: an unknown geometry or coupling, a population without a spec, or without what the geometry
            needs.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.zoo import Population
        >>> draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)
        >>> stack = {"w": draw(0, 9, 3, 4), "v": draw(1, 9, 4, 2)}
        >>> fn = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
        >>> one = jax.tree.map(lambda x: x[0], stack)
        >>> spec = symmetry.infer(fn, one, draw(2, 8, 3), kinds=("permutation", "scale"))
        >>> zoo = Population(stack, {}, spec)
        >>> model = geometric_flow(
        ...     zoo, key=jax.random.key(0), channels=4, layers=1, steps=4, method="universal")
        >>> found = model.sample(jax.random.key(1), 5)
        >>> print(jnp.linalg.norm(found["w"], axis=1).std() < 1e-4)
        True
    """
    if geometry not in GEOMETRIES or coupling not in COUPLINGS:
        raise ValueError(
            f"`geometry` is {geometry!r}, one of {GEOMETRIES}; `coupling` {coupling!r}, one of {COUPLINGS}"
        )
    if getattr(population, "spec", None) is None:
        raise ValueError(
            "a graph network needs the spec of its networks: `population.with_spec(spec)`"
        )
    align_key, net_key = jax.random.split(key)
    fits: list[Any] = []
    if align:
        fits.append(
            partial(CanonicalSpace.fit, key=align_key, scales=False, kinds=("permutation",))
        )
    fits.append(WeightSpace.fit if geometry == "euclidean" else SphereSpace.fit)
    space = fit_spaces(population, *fits)
    last = space.spaces[-1]
    manifold = None
    if geometry == "spheres" and isinstance(last, SphereSpace):
        manifold = last.geometry
    pairs = {
        "independent": Independent(),
        "minibatch": MinibatchTransport(),
        "quotient": QuotientTransport(space.spec),
    }
    told = {} if conditioner is None else {"told": conditioner.size, "beside": conditioner.beside}
    net = EquivariantDenoiser(
        space.spec, channels, layers, key=net_key, method=method, **told, **options
    )
    return Flow(
        net,
        space,
        target="data",
        coupling=pairs[coupling],
        geometry=manifold,
        sigma=0.0 if manifold is not None else sigma,
        times=BetaTimes(2.0, 1.0),  # Beta(1, 2), counted from the noise
        sampler=Euler(steps),
        conditioner=conditioner,
    )
