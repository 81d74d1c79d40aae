"""How noise turns into networks: pure programs, one scan each, over what a denoiser says."""

from .ancestral import DDIM as DDIM
from .ancestral import Ancestral as Ancestral
from .ancestral import Posterior as Posterior
from .ancestral import posterior as posterior
from .field import Field as Field
from .ode import Adaptive as Adaptive
from .ode import Euler as Euler
from .ode import Heun as Heun
from .ode import RungeKutta4 as RungeKutta4
from .sampler import Sampler as Sampler
from .sampler import SteppedSampler as SteppedSampler
