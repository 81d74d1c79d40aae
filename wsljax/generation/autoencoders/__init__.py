"""Autoencoders of networks, and their latents as spaces for generators to work in."""

from .autoencoder import Autoencoder as Autoencoder
from .autoencoder import fit_autoencoder as fit_autoencoder
from .convolution import ConvolutionAutoencoder as ConvolutionAutoencoder
from .equivariant import EquivariantAutoencoder as EquivariantAutoencoder
from .equivariant import answers as answers
from .latent_space import LatentSpace as LatentSpace
from .latent_space import latent_space as latent_space
from .reconstruction import Reconstruction as Reconstruction
from .reconstruction import mean_squared as mean_squared
from .tokens import TokenAutoencoder as TokenAutoencoder
