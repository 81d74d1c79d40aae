"""What weight space networks are good for, put together from all the rest.

``learned_optimisers``: an equivariant network as an optax transform. ``meta_training``: how such a
network, or anything else that acts over many steps, is trained by what comes of them.
``learned_matching``: an equivariant network that brings two networks into one order.
"""

from . import learned_matching as learned_matching
from . import learned_optimisers as learned_optimisers
from . import meta_training as meta_training
from .learned_matching import LearnedMatcher as LearnedMatcher
from .learned_matching import fit_matcher as fit_matcher
from .learned_optimisers import OptimiserNetwork as OptimiserNetwork
from .learned_optimisers import learned_optimiser as learned_optimiser
from .meta_training import meta_train as meta_train
