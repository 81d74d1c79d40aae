"""See :mod:`.registry`."""

from . import hidden, nets, order, stacks  # noqa: F401
from .registry import SNIPPETS as SNIPPETS
