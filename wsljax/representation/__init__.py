"""Representations of networks that respect what their weights may do.

::

    net = Metanetwork(spec, channels=32, layers=3, out=1, key=key)   # invariant: one answer a network
    jax.vmap(net)(population)

:class:`UniversalLinear` is every linear map that commutes with the group of a spec; :class:`Embed`,
:class:`BlockNorm`, :class:`InvariantPool` and :class:`Readout` are what stands around it;
:class:`Metanetwork` and :class:`Editor` are whole networks built of them. All are general over any
:class:`~wsljax.symmetry.Spec`, and none has a parameter that depends on a width.

:func:`statistics` and the predictors are the baselines that every result should stand beside;
:func:`evaluate_baselines` gives their table in one call.
"""

from .baselines import evaluate_baselines as evaluate_baselines
from .baselines import score as score
from .basis import basis as basis
from .basis import count_terms as count_terms
from .embed import Embed as Embed
from .embed import Readout as Readout
from .embed import block_scales as block_scales
from .features import Features as Features
from .indices import structure as structure
from .linear import UniversalLinear as UniversalLinear
from .linear import universal_linear as universal_linear
from .metanetwork import Editor as Editor
from .metanetwork import EquivariantLayer as EquivariantLayer
from .metanetwork import Metanetwork as Metanetwork
from .metanetwork import Trunk as Trunk
from .norm import BlockNorm as BlockNorm
from .pool import InvariantPool as InvariantPool
from .predictors import fit_logistic as fit_logistic
from .predictors import fit_logit_linear as fit_logit_linear
from .predictors import fit_mlp as fit_mlp
from .predictors import fit_ridge as fit_ridge
from .predictors import fit_trees as fit_trees
from .statistics import DEFINITIONS as DEFINITIONS
from .statistics import feature_names as feature_names
from .statistics import statistics as statistics
