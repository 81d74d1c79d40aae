"""Teleports: params moved within their orbit, the loss unchanged, to where an objective is better.

:func:`teleport` for any spec or action, :func:`teleporting` for any optax optimiser, and
:func:`teleport_on_batch` for activations that have no continuous group.
"""

from .action import Action
from .ascend import Report, Teleported, teleport
from .carry import carry_state
from .learned import TeleportNet, train_teleport_net
from .objectives import GradientObjective, curvature, gradient_norm, sharpness, top_eigenvalue
from .on_batch import batch_action, teleport_on_batch
from .roles import ROLES, register_roles
from .transform import TeleportingState, teleporting
from .transport import Transport, along_path, by_element

__all__ = [
    "ROLES", "Action", "GradientObjective", "Report", "TeleportNet", "Teleported", "TeleportingState", "Transport",
    "along_path", "batch_action", "by_element", "carry_state", "curvature", "gradient_norm", "register_roles",
    "sharpness", "teleport", "teleport_on_batch", "teleporting", "top_eigenvalue", "train_teleport_net",
]  # fmt: skip
