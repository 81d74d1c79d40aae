"""How networks turn into noise, and what a denoiser is trained to say on the way."""

from .path import Estimate as Estimate
from .path import Path as Path
from .path import Straight as Straight
from .path import VarianceExploding as VarianceExploding
from .targets import DataTarget as DataTarget
from .targets import NoiseTarget as NoiseTarget
from .targets import Preconditioned as Preconditioned
from .targets import Target as Target
from .targets import VelocityTarget as VelocityTarget
from .targets import VTarget as VTarget
from .targets import as_target as as_target
from .targets import data_deviation as data_deviation
from .times import BetaTimes as BetaTimes
from .times import LogitNormalTimes as LogitNormalTimes
from .times import LogNormalTimes as LogNormalTimes
from .times import StepTimes as StepTimes
from .times import Times as Times
from .times import UniformTimes as UniformTimes
from .variance_preserving import CosinePath as CosinePath
from .variance_preserving import LinearBetaPath as LinearBetaPath
from .variance_preserving import VariancePreserving as VariancePreserving
from .weights import DataWeight as DataWeight
from .weights import MinSNRWeight as MinSNRWeight
from .weights import PlainWeight as PlainWeight
from .weights import Weight as Weight
