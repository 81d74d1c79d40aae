"""Matching that is learned: trained on some networks, it aligns new pairs in one pass.

::

    matcher = LearnedMatcher(spec, channels=32, layers=3, key=key)
    matcher = fit_matcher(matcher, population, steps=2000, batch_size=16, optimiser=optax.adam(1e-3), key=key).model
    element = matcher(a, b)                       # spec.act(element, b) is b aligned to a
    jax.jit(jax.vmap(matcher))(many_a, many_b)    # many pairs at once
"""

from .matcher import LearnedMatcher as LearnedMatcher
from .training import fit_matcher as fit_matcher
from .training import midpoint_loss as midpoint_loss
from .training import planted_loss as planted_loss
from .training import share_found as share_found
