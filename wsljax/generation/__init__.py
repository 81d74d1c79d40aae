"""Generating networks: distributions over weights, fitted to populations and drawn from.

A `Generator` has a loss and draws networks; `spaces` say what it sees of a network, `processes` how networks
turn into noise, `samplers` how noise turns into networks.
"""

from . import autoencoders as autoencoders
from . import baselines as baselines
from . import conditions as conditions
from . import couplings as couplings
from . import denoisers as denoisers
from . import evaluation as evaluation
from . import families as families
from . import geometry as geometry
from . import processes as processes
from . import samplers as samplers
from . import spaces as spaces
from .diffusion import Diffusion as Diffusion
from .fitting import Fitted as Fitted
from .fitting import fit as fit
from .flow import Flow as Flow
from .flow import NormalSource as NormalSource
from .generator import Batch as Batch
from .generator import Generator as Generator
from .guidance import TaskGradient as TaskGradient
from .populations import sample_population as sample_population
from .recurrent import RecurrentDiffusion as RecurrentDiffusion
