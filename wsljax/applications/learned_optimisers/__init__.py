"""Optimisers that are networks: gradients, momenta and weights in, updates out.

::

    net = OptimiserNetwork(spec, channels=8, layers=1, key=key)     # or method="pointwise", "nfn", ...
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), learned_optimiser(net))
    updates, state = optimiser.update(gradients, state, params)

A network that is drawn and not trained is Adam (or SGD with momentum) to the last digit; train it with
:mod:`~wsljax.applications.meta_training`.
"""

from .inputs import Accumulators as Accumulators
from .network import OptimiserNetwork as OptimiserNetwork
from .shared_axes import fixed_as_units as fixed_as_units
from .transform import learned_optimiser as learned_optimiser
