"""What a generator sees of a network: spaces, into which weights go and from which they come back."""

from .canonical import CanonicalSpace as CanonicalSpace
from .composed import ComposedSpace as ComposedSpace
from .composed import fit_spaces as fit_spaces
from .flat import FlatSpace as FlatSpace
from .principal import PrincipalSpace as PrincipalSpace
from .restrict import restrict as restrict
from .space import IdentitySpace as IdentitySpace
from .space import Space as Space
from .spheres import SphereSpace as SphereSpace
from .subset import SubsetSpace as SubsetSpace
from .tokens import TokenSpace as TokenSpace
from .weights import WeightSpace as WeightSpace
