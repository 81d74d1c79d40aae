"""Matching: exchanges of units that bring networks together."""

from .assignment import linear_assignment as linear_assignment
from .weight_matching import Matching as Matching
from .weight_matching import weight_matching as weight_matching
