"""Matching: exchanges of units that bring networks together."""

from .activation_matching import activation_matching as activation_matching
from .assignment import linear_assignment as linear_assignment
from .cycle_consistent import CycleConsistent as CycleConsistent
from .cycle_consistent import cycle_consistent_matching as cycle_consistent_matching
from .frank_wolfe import frank_wolfe_matching as frank_wolfe_matching
from .relaxed import act_relaxed as act_relaxed
from .sinkhorn import sinkhorn as sinkhorn
from .sinkhorn_matching import Relaxed as Relaxed
from .sinkhorn_matching import sinkhorn_matching as sinkhorn_matching
from .straight_through import Learned as Learned
from .straight_through import straight_through_matching as straight_through_matching
from .transport import transport_plan as transport_plan
from .transport_fusion import Fusion as Fusion
from .transport_fusion import transport_fusion as transport_fusion
from .weight_matching import Matching as Matching
from .weight_matching import weight_matching as weight_matching

__all__ = [
    "CycleConsistent", "Fusion", "Learned", "Matching", "Relaxed", "act_relaxed", "activation_matching",
    "cycle_consistent_matching", "frank_wolfe_matching", "linear_assignment", "sinkhorn",
    "sinkhorn_matching", "straight_through_matching", "transport_fusion", "transport_plan",
    "weight_matching",
]  # fmt: skip
