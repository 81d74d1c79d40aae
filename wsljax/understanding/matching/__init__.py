"""Matching: exchanges of units that bring networks together."""

from .activation_matching import activation_matching as activation_matching
from .assignment import linear_assignment as linear_assignment
from .frank_wolfe import frank_wolfe_matching as frank_wolfe_matching
from .relaxed import act_relaxed as act_relaxed
from .sinkhorn import sinkhorn as sinkhorn
from .sinkhorn_matching import Relaxed as Relaxed
from .sinkhorn_matching import sinkhorn_matching as sinkhorn_matching
from .straight_through import Learned as Learned
from .straight_through import straight_through_matching as straight_through_matching
from .weight_matching import Matching as Matching
from .weight_matching import weight_matching as weight_matching

__all__ = [
    "Learned", "Matching", "Relaxed", "act_relaxed", "activation_matching", "frank_wolfe_matching",
    "linear_assignment", "sinkhorn", "sinkhorn_matching", "straight_through_matching", "weight_matching",
]  # fmt: skip
