"""Networks that take the noise out of networks.

All are called alike: ``net(x, level, told=None, beside=None)`` gives a tree like ``x``, the weights (or what a
space makes of them) of one network; ``jax.vmap`` for a batch. ``level`` is a number that says how noisy they
are, ``told`` a vector (the condition), ``beside`` trees like ``x`` (other networks). All are zero at first.
"""

from .equivariant import EquivariantDenoiser as EquivariantDenoiser
from .flat import FlatDenoiser as FlatDenoiser
from .flat_unet import FlatUNet as FlatUNet
from .levels import LevelEmbedding as LevelEmbedding
from .residual import FromBeside as FromBeside
from .token_transformer import TokenTransformer as TokenTransformer
