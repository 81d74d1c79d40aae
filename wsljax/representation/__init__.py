"""Representations of networks that respect what their weights may do.

::

    net = Metanetwork(spec, channels=32, layers=3, out=1, key=key)   # invariant: one answer a network
    jax.vmap(net)(population)

:class:`UniversalLinear` is every linear map that commutes with the group of a spec; :class:`Embed`,
:class:`BlockNorm`, :class:`InvariantPool` and :class:`Readout` are what stands around it;
:class:`Metanetwork` and :class:`Editor` are whole networks built of them. All are general over any
:class:`~wsljax.symmetry.Spec`, and none has a parameter that depends on a width.
"""

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
