"""Understanding weights: move along symmetries, optimise with them, compare networks up to them.

``teleportation`` moves weights within their orbit, ``optimisers`` know the group, ``canonical`` holds one
representative per orbit and distances between orbits, ``matching`` brings networks into the order of others,
``connectivity`` measures, improves and repairs what lies between them. What is used every day is here by its
own name.
"""

from . import canonical as canonical
from . import connectivity as connectivity
from . import matching as matching
from . import optimisers as optimisers
from . import teleportation as teleportation
from .canonical import canonicalise as canonicalise
from .canonical import quotient_distance as quotient_distance
from .connectivity import barrier as barrier
from .connectivity import fit_curve as fit_curve
from .connectivity import merge_many as merge_many
from .connectivity import repair as repair
from .connectivity import reset_statistics as reset_statistics
from .matching import Matching as Matching
from .matching import activation_matching as activation_matching
from .matching import cycle_consistent_matching as cycle_consistent_matching
from .matching import linear_assignment as linear_assignment
from .matching import sinkhorn_matching as sinkhorn_matching
from .matching import straight_through_matching as straight_through_matching
from .matching import transport_fusion as transport_fusion
from .matching import weight_matching as weight_matching
from .optimisers import balance as balance
from .optimisers import balancing as balancing
from .optimisers import g_sgd as g_sgd
from .optimisers import path_sgd as path_sgd
from .optimisers import project_off_orbit as project_off_orbit
from .optimisers import remove_radial as remove_radial
from .teleportation import teleport as teleport
from .teleportation import teleport_on_batch as teleport_on_batch
from .teleportation import teleporting as teleporting
