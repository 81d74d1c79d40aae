"""Honest evaluation: quality, novelty (raw, up to symmetry, of functions), copying and diversity."""

from .alignment import align as align
from .alignment import aligned_population as aligned_population
from .audit import Audit as Audit
from .compare import Comparison as Comparison
from .compare import compare as compare
from .copying import Copying as Copying
from .copying import copying_test as copying_test
from .diversity import TwoSample as TwoSample
from .diversity import coverage as coverage
from .diversity import energy_test as energy_test
from .diversity import minimum_matching as minimum_matching
from .diversity import nearest_neighbour_accuracy as nearest_neighbour_accuracy
from .evaluate import evaluate as evaluate
from .nearest import Nearest as Nearest
from .nearest import euclidean as euclidean
from .nearest import nearest_rows as nearest_rows
from .novelty import new_and_good as new_and_good
from .predictions import disagreement as disagreement
from .predictions import ensemble_gain as ensemble_gain
from .predictions import jensen_shannon as jensen_shannon
from .predictions import wrong_overlap as wrong_overlap
from .quotient import Quotient as Quotient
from .report import Report as Report
from .representatives import representatives as representatives

__all__ = [
    "Audit", "Comparison", "Copying", "Nearest", "Quotient", "Report", "TwoSample", "align",
    "aligned_population", "compare", "copying_test", "coverage", "disagreement", "energy_test",
    "ensemble_gain", "euclidean", "evaluate", "jensen_shannon", "minimum_matching",
    "nearest_neighbour_accuracy", "nearest_rows", "new_and_good", "representatives", "wrong_overlap",
]  # fmt: skip
