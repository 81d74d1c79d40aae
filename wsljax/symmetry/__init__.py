"""What leaves a network's function unchanged: ``Spec``, its group, and its inference from a trace."""

from .check import check as check
from .handwritten import parse as parse
from .infer import infer as infer
from .inference.walk import register_rule as register_rule
from .layout import Block as Block
from .spec import Leaf as Leaf
from .spec import Pinned as Pinned
from .spec import Spec as Spec
from .spec import Units as Units
