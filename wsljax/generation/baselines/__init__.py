"""Trivial baselines: generators without training, which a trained one has to beat."""

from .baseline import Baseline as Baseline
from .copies import Copies as Copies
from .copies import NoisyCopies as NoisyCopies
from .gaussians import EntryGaussian as EntryGaussian
from .gaussians import LeafGaussian as LeafGaussian
from .gaussians import PrincipalGaussian as PrincipalGaussian
from .kernel_density import KernelDensity as KernelDensity
from .mixtures import Interpolation as Interpolation
from .mixtures import Soups as Soups
from .standard import trivial_baselines as trivial_baselines

__all__ = [
    "Baseline", "Copies", "EntryGaussian", "Interpolation", "KernelDensity", "LeafGaussian",
    "NoisyCopies", "PrincipalGaussian", "Soups", "trivial_baselines",
]  # fmt: skip
