"""Torch state dicts: which modules they hold, what runs between them, and their reading and writing."""

from .read import from_state_dict as from_state_dict
from .read import to_state_dict as to_state_dict
