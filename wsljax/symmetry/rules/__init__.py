"""What inference knows of each primitive. Importing this registers the rules."""

from . import contract, control, index, order, pointwise, shape  # noqa: F401
