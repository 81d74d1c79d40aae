"""Canonical forms, and distances between networks up to their symmetries."""

from .canonicalise import Canonical as Canonical
from .canonicalise import NotCanonicalWarning as NotCanonicalWarning
from .canonicalise import canonicalise as canonicalise
from .distance import QuotientAlignment as QuotientAlignment
from .distance import quotient_alignment as quotient_alignment
from .distance import quotient_distance as quotient_distance

__all__ = [
    "Canonical", "NotCanonicalWarning", "QuotientAlignment", "canonicalise", "quotient_alignment",
    "quotient_distance",
]  # fmt: skip
