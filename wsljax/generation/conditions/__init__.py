"""What networks are generated for: conditions, as what a denoiser is told.

``condition(raw)`` gives :class:`Told`: a vector, and networks that stand beside. :class:`Dropped` hides a
condition now and then while a generator is trained, so that sampling can be guided without a classifier.
"""

from .classes import ClassCondition as ClassCondition
from .condition import Condition as Condition
from .condition import Conditions as Conditions
from .condition import Told as Told
from .dropped import Dropped as Dropped
from .graphs import ARCHITECTURE_FEATURES as ARCHITECTURE_FEATURES
from .graphs import Graph as Graph
from .graphs import GraphCondition as GraphCondition
from .graphs import architecture_graph as architecture_graph
from .networks import NetworkCondition as NetworkCondition
from .sets import Examples as Examples
from .sets import SetCondition as SetCondition
from .vectors import VectorCondition as VectorCondition
