"""Generators beyond permutations: what they are (:mod:`.kinds`), how they act and compose (:mod:`.action`)."""

from .kinds import KINDS as KINDS
from .kinds import Carry as Carry
from .kinds import Gain as Gain
from .kinds import Generator as Generator
from .kinds import Linear as Linear
from .kinds import Orthogonal as Orthogonal
from .kinds import Phase as Phase
from .kinds import Scale as Scale
from .kinds import Shift as Shift
from .kinds import Sign as Sign
from .kinds import Term as Term
from .kinds import Uniform as Uniform
