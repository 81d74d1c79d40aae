"""Architectures by name; importing this registers them with `zoo.Function`."""

from wsljax.zoo.architectures import cnn, fields, lora, mlp, recurrent, siren, transformer

__all__ = ["cnn", "fields", "lora", "mlp", "recurrent", "siren", "transformer"]
