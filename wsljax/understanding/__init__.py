"""Understanding weights: move along symmetries, optimise with them, compare networks up to them.

``teleportation`` moves weights within their orbit, ``optimisers`` know the group, ``canonical`` holds one
representative per orbit and distances between orbits. What is used every day is here by its own name.
"""

from . import canonical as canonical
from . import optimisers as optimisers
from . import teleportation as teleportation
from .canonical import canonicalise as canonicalise
from .canonical import quotient_distance as quotient_distance
from .optimisers import balance as balance
from .optimisers import balancing as balancing
from .optimisers import g_sgd as g_sgd
from .optimisers import path_sgd as path_sgd
from .optimisers import project_off_orbit as project_off_orbit
from .optimisers import remove_radial as remove_radial
from .teleportation import teleport as teleport
from .teleportation import teleport_on_batch as teleport_on_batch
from .teleportation import teleporting as teleporting
