"""What inference knows of each primitive. Importing this registers the rules."""

from . import contract, control, index, linalg, order, pointwise, recent, shape  # noqa: F401
