"""Architectures by name; importing this registers them with `zoo.Function`."""

from wsljax.zoo.architectures import cnn, mlp, siren

__all__ = ["cnn", "mlp", "siren"]
