"""The trivial baselines that every generator is to be printed beside."""

from __future__ import annotations

from typing import Any

import jax

from ...symmetry import Spec
from ...zoo.population import Population
from ..evaluation.alignment import aligned_population
from ..generator import Generator
from .copies import Copies, NoisyCopies
from .gaussians import EntryGaussian, LeafGaussian, PrincipalGaussian
from .kernel_density import KernelDensity
from .mixtures import Interpolation, Soups


def trivial_baselines(
    training: Any, spec: Spec | None = None, *, key: jax.Array, soup: int = 16, noise: float = 0.1
) -> dict[str, Generator]:
    """Generators that need no training, by name: from networks as they are, and from aligned ones.

    Args:
        training: a `Population` or stacked params.
        spec: the symmetry (default: the population's); without it, or with a trivial one, nothing is
            aligned.
        key: decides the order of visits in alignment.
        soup: networks in a soup, at most.
        noise: of noisy copies, as a share of each weight's deviation.

    Returns:
        Copies, copies with noise, a Gaussian per array; and, of networks as they are (`raw`) and, where
        there are symmetries, with scales settled and aligned to the first (`aligned`): interpolation,
        soups, Gaussians per weight and with covariance, kernel density.

    Example:
        >>> import jax.numpy as jnp
        >>> networks = {"w": jax.random.normal(jax.random.key(0), (5, 3))}
        >>> for name in trivial_baselines(networks, key=jax.random.key(1)): print(name)
        training networks
        training network + 0.1 sd
        leaf Gaussian
        raw interpolation
        raw soup of 5
        raw entry Gaussian
        raw PCA Gaussian
        raw kernel density
    """
    if not isinstance(training, Population):
        training = Population(training, {}, spec=spec)
    spec = training.spec if spec is None else spec
    size = min(soup, len(training))
    found: dict[str, Generator] = {
        "training networks": Copies(training),
        f"training network + {noise:g} sd": NoisyCopies(training, noise),
        "leaf Gaussian": LeafGaussian(training),
    }
    kinds = {"raw": training}
    if spec is not None and (spec.units or spec.generators):
        kinds["aligned"] = aligned_population(training, spec, key=key)
    if len(training) < 2:
        return found
    for kind, networks in kinds.items():
        found |= {
            f"{kind} interpolation": Interpolation(networks),
            f"{kind} soup of {size}": Soups(networks, size),
            f"{kind} entry Gaussian": EntryGaussian(networks),
            f"{kind} PCA Gaussian": PrincipalGaussian(networks),
            f"{kind} kernel density": KernelDensity(networks),
        }
    return found
