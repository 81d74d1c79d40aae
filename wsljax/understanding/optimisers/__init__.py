"""Optimisers that know the group: balancing, Path-SGD, G-SGD, radial removal, steps in the quotient."""

from .balance import BalanceResult as BalanceResult
from .balance import balance as balance
from .balance import balancing as balancing
from .g_sgd import g_sgd as g_sgd
from .path_sgd import path_metric as path_metric
from .path_sgd import path_sgd as path_sgd
from .path_sgd import scale_by_path as scale_by_path
from .quotient import ProjectionResult as ProjectionResult
from .quotient import balanced_metric as balanced_metric
from .quotient import project_off_orbit as project_off_orbit
from .quotient import project_quotient as project_quotient
from .quotient import scale_by_metric as scale_by_metric
from .radial import radial_generators as radial_generators
from .radial import remove_radial as remove_radial

__all__ = [
    "BalanceResult", "ProjectionResult", "balance", "balanced_metric", "balancing", "g_sgd",
    "path_metric", "path_sgd", "project_off_orbit", "project_quotient", "radial_generators",
    "remove_radial", "scale_by_metric", "scale_by_path",
]  # fmt: skip
