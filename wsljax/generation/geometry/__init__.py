"""The manifolds on which flows move: flat space, and products of spheres."""

from .euclidean import Euclidean as Euclidean
from .incoming import incoming as incoming
from .incoming import normalising as normalising
from .spheres import Spheres as Spheres
