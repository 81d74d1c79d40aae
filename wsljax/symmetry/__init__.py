"""What leaves a network's function unchanged: ``Spec``, its group, and its inference from a trace."""

from .check import check as check
from .completeness import Completeness as Completeness
from .completeness import completeness as completeness
from .conserved import conserved as conserved
from .conserved import not_conserved as not_conserved
from .fold_norms import Folded as Folded
from .fold_norms import fold_norms as fold_norms
from .generators import Carry as Carry
from .generators import Gain as Gain
from .generators import Generator as Generator
from .generators import Linear as Linear
from .generators import Orthogonal as Orthogonal
from .generators import Phase as Phase
from .generators import Scale as Scale
from .generators import Shift as Shift
from .generators import Sign as Sign
from .generators import Term as Term
from .generators import Uniform as Uniform
from .handwritten import parse as parse
from .infer import infer as infer
from .inference.walk import register_rule as register_rule
from .layout import Block as Block
from .spec import Leaf as Leaf
from .spec import Pinned as Pinned
from .spec import Spec as Spec
from .spec import Units as Units
