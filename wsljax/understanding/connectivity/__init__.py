"""What lies between networks: barriers, paths of low loss, and repairing what averages break.

``barrier`` measures a path (``linear``, ``bezier``, ``polygonal``), ``fit_curve`` and ``fit_geodesic`` find
better ones, ``repair`` and ``reset_statistics`` give merged networks the statistics of their parents, and
``merge_many`` averages many.
"""

from .barrier import Barrier as Barrier
from .barrier import barrier as barrier
from .barrier import barrier_matrix as barrier_matrix
from .barrier import barriers as barriers
from .barrier import mean_value as mean_value
from .curves import Curve as Curve
from .curves import align_end as align_end
from .curves import fit_aligned_curve as fit_aligned_curve
from .curves import fit_curve as fit_curve
from .geodesic import Geodesic as Geodesic
from .geodesic import chain_length as chain_length
from .geodesic import fit_geodesic as fit_geodesic
from .geodesic import jensen_shannon as jensen_shannon
from .merge import Merged as Merged
from .merge import average as average
from .merge import merge_many as merge_many
from .paths import bezier as bezier
from .paths import linear as linear
from .paths import polygonal as polygonal
from .producers import Producers as Producers
from .producers import find_producers as find_producers
from .repair import Repaired as Repaired
from .repair import repair as repair
from .reset import reset_statistics as reset_statistics
