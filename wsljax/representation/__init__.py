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

from .baselines.evaluate import evaluate_baselines as evaluate_baselines
from .baselines.evaluate import score as score
from .baselines.predictors import fit_logistic as fit_logistic
from .baselines.predictors import fit_logit_linear as fit_logit_linear
from .baselines.predictors import fit_mlp as fit_mlp
from .baselines.predictors import fit_ridge as fit_ridge
from .baselines.predictors import fit_trees as fit_trees
from .baselines.statistics import DEFINITIONS as DEFINITIONS
from .baselines.statistics import feature_names as feature_names
from .baselines.statistics import statistics as statistics
from .blocks.features import Features as Features
from .blocks.indices import structure as structure
from .metanetwork import Editor as Editor
from .metanetwork import Metanetwork as Metanetwork
from .methods.registry import build_trunk as build_trunk
from .methods.registry import methods as methods
from .methods.registry import register_method as register_method
from .methods.trunk import LayeredTrunk as LayeredTrunk
from .methods.trunk import Trunk as Trunk
from .methods.universal import EquivariantLayer as EquivariantLayer
from .parts.embed import Embed as Embed
from .parts.embed import block_scales as block_scales
from .parts.norm import BlockNorm as BlockNorm
from .parts.pool import InvariantPool as InvariantPool
from .parts.readout import Readout as Readout
from .universal.basis import basis as basis
from .universal.basis import count_terms as count_terms
from .universal.linear import UniversalLinear as UniversalLinear
from .universal.linear import universal_linear as universal_linear
