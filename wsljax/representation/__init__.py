"""Representations of networks that respect what their weights may do.

::

    net = Metanetwork(spec, channels=32, layers=3, out=1, key=key)   # invariant: one answer a network
    net = Metanetwork(spec, 32, 3, 1, key=key, method="neural_graph")  # another of `methods()`
    jax.vmap(net)(population)

:class:`Metanetwork` and :class:`Editor` are whole networks, of the method that is named: each turns
weights into features in a way of its own (see :mod:`.methods`). All are general over any
:class:`~wsljax.symmetry.Spec`, and none has a parameter that depends on a width.

:class:`UniversalLinear` is every linear map that commutes with the exchange of units,
:class:`MonomialLinear` those that commute with scales and signs, too; :class:`Embed`,
:class:`BlockNorm`, :class:`InvariantPool`, :class:`Readout` and others are what stands around layers.
:class:`HeterogeneousPopulation` packs networks of any architectures into batches of one program.

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
from .coordinates import CoordinateNetwork as CoordinateNetwork
from .coordinates import feature_distillation as feature_distillation
from .coordinates import fit_coordinates as fit_coordinates
from .coordinates import logit_distillation as logit_distillation
from .coordinates import reconstruction as reconstruction
from .graph.derive import graph_of as graph_of
from .graph_batch.batch import batch_graphs as batch_graphs
from .graph_batch.batch import split_batch as split_batch
from .graph_batch.parameter_graph import ParameterGraph as ParameterGraph
from .graph_batch.parameter_graph import parameter_graph as parameter_graph
from .graph_batch.parameter_graph import weights_of as weights_of
from .graph_batch.plan import Sizes as Sizes
from .graph_batch.population import GraphBatch as GraphBatch
from .graph_batch.population import HeterogeneousPopulation as HeterogeneousPopulation
from .invariance_loss import distribution_invariance as distribution_invariance
from .invariance_loss import logit_invariance as logit_invariance
from .metanetwork import Editor as Editor
from .metanetwork import Metanetwork as Metanetwork
from .methods.graph_metanetwork import GraphMetanetwork as GraphMetanetwork
from .methods.graph_metanetwork import answer_batch as answer_batch
from .methods.graph_metanetwork import edit_batch as edit_batch
from .methods.inr2array import Inr2Array as Inr2Array
from .methods.nerf_encoder import NerfEncoder as NerfEncoder
from .methods.registry import build_trunk as build_trunk
from .methods.registry import methods as methods
from .methods.registry import register_method as register_method
from .methods.trunk import LayeredTrunk as LayeredTrunk
from .methods.trunk import Trunk as Trunk
from .methods.universal import EquivariantLayer as EquivariantLayer
from .parts.attention_pool import AttentionPool as AttentionPool
from .parts.channels import ChannelLinear as ChannelLinear
from .parts.channels import Gated as Gated
from .parts.channels import Pointwise as Pointwise
from .parts.channels import Residual as Residual
from .parts.dropout import Dropout as Dropout
from .parts.embed import Embed as Embed
from .parts.embed import block_scales as block_scales
from .parts.norm import BlockNorm as BlockNorm
from .parts.norm import LayerNorm as LayerNorm
from .parts.pool import InvariantPool as InvariantPool
from .parts.pool import make_pool as make_pool
from .parts.probes import Probes as Probes
from .parts.readout import Readout as Readout
from .scaling.linear import MonomialLinear as MonomialLinear
from .scaling.linear import count_charged_terms as count_charged_terms
from .scaling.pieces import with_generators as with_generators
from .unit_order import smooth_order as smooth_order
from .universal.basis import basis as basis
from .universal.basis import count_terms as count_terms
from .universal.coupling import LowRankLinear as LowRankLinear
from .universal.kronecker import KroneckerLinear as KroneckerLinear
from .universal.linear import UniversalLinear as UniversalLinear
from .universal.linear import universal_linear as universal_linear
from .universal.sharing import AttentionCoupling as AttentionCoupling
from .universal.sharing import SharedLinear as SharedLinear
