"""Networks of other frameworks and files as ``(fn, params)``: a pure function and a tree of arrays."""

from .equinox import from_equinox as from_equinox
from .equinox import to_equinox as to_equinox
from .huggingface import from_huggingface as from_huggingface
from .huggingface import huggingface_network as huggingface_network
from .huggingface import to_huggingface as to_huggingface
from .linen import from_linen as from_linen
from .linen import to_linen as to_linen
from .nnx import from_nnx as from_nnx
from .nnx import to_nnx as to_nnx
from .safetensors_folder import read_safetensors as read_safetensors
from .safetensors_folder import write_safetensors as write_safetensors
from .state_dicts import from_state_dict as from_state_dict
from .state_dicts import to_state_dict as to_state_dict
from .tensors import Network as Network
from .tensors import Tensor as Tensor
from .torch_file import TorchFileError as TorchFileError
from .torch_file import UnknownGlobal as UnknownGlobal
from .torch_file import read_pickle as read_pickle
from .torch_file import read_torch as read_torch
from .torch_writer import write_torch as write_torch
