"""Networks of other frameworks and files as ``(fn, params)``: a pure function and a tree of arrays."""

from .huggingface import from_huggingface as from_huggingface
from .huggingface import huggingface_network as huggingface_network
from .huggingface import to_huggingface as to_huggingface
from .safetensors_folder import read_safetensors as read_safetensors
from .safetensors_folder import write_safetensors as write_safetensors
from .tensors import Network as Network
from .tensors import Tensor as Tensor
