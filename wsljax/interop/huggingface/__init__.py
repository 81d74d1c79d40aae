"""Hugging Face folders: one file for each family of models, and their reading and writing."""

from .folder import from_huggingface as from_huggingface
from .folder import huggingface_network as huggingface_network
from .folder import to_huggingface as to_huggingface
