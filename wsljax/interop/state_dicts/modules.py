"""Torch modules with weights: dense, convolution, embedding, norms. Each gives rows and a function.

A builder is called with the module's name, the shapes of its tensors and the :class:`Flow` up to it; its
keyword arguments are what the weights do not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import layers
from ..tensors import CONV, DENSE, FLAT_DENSE, FLAT_VECTOR, SAME, Tensor

Shapes = Mapping[str, tuple[int, ...]]  # "weight" -> shape, of one module


class Built(NamedTuple):
    """Rows of a module's tensors, and its function ``(its params, *inputs) -> output``."""

    tensors: list[Tensor]
    apply: Callable[..., Any]


@dataclass
class Flow:
    """What is known of the values between modules: the channels of images, and if they were flattened."""

    channels: int | None = None
    flat: int | None = None


def row(name: str, sub: str, leaf: str, layout: str = SAME, channels: int = 1) -> Tensor:
    """The tensor ``sub`` of the module ``name``; ``leaf`` is its path below the module, with slashes."""
    full = f"{name}.{sub}" if name else sub
    path = (*name.split("."), *leaf.split("/")) if name else tuple(leaf.split("/"))
    return Tensor(full, path, layout, channels)


def optional_rows(name: str, shapes: Shapes, leaves: Mapping[str, str], **kw: Any) -> list[Tensor]:
    """Rows of those tensors in ``leaves`` ({sub: leaf}) that the module has."""
    return [row(name, sub, leaf, **kw) for sub, leaf in leaves.items() if sub in shapes]


def dense(name: str, shapes: Shapes, flow: Flow) -> Built:
    """``nn.Linear``; behind flattened images its inputs are put in our order, channels last."""
    if flow.flat is None:
        kernel = row(name, "weight", "kernel", DENSE)
    else:
        kernel = row(name, "weight", "kernel", FLAT_DENSE, flow.flat)
    flow.channels = flow.flat = None
    return Built([kernel, *optional_rows(name, shapes, {"bias": "bias"})], layers.dense)


def embedding(name: str, shapes: Shapes, flow: Flow) -> Built:
    """``nn.Embedding``: integers to rows."""
    return Built([row(name, "weight", "embedding")], lambda p, ids: p["embedding"][ids])


def convolution(
    name: str,
    shapes: Shapes,
    flow: Flow,
    *,
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int] = 1,
) -> Built:
    """``nn.Conv1d``, ``2d``, ``3d``, grouped or not; zero padding."""
    if shapes.get("bias", shapes["weight"][:1]) != shapes["weight"][:1]:
        raise ValueError(
            f"module {name!r}: a kernel {shapes['weight']} with a bias {shapes['bias']} is that of a transposed "
            "convolution, which is not read"
        )
    flow.channels = shapes["weight"][0]
    rows = [row(name, "weight", "kernel", CONV), *optional_rows(name, shapes, {"bias": "bias"})]

    def apply(p: Any, x: jax.Array) -> jax.Array:
        return layers.convolution(p, x, stride=stride, padding=padding, dilation=dilation)

    return Built(rows, apply)


AFFINE = {"weight": "scale", "bias": "bias"}


def batch_norm(name: str, shapes: Shapes, flow: Flow, *, eps: float = 1e-5) -> Built:
    """``nn.BatchNorm`` in evaluation; the count of batches is kept beside the parameters."""
    leaves = {**AFFINE, "running_mean": "mean", "running_var": "var"}
    rows = optional_rows(name, shapes, leaves, **_order(flow))
    return Built(rows, lambda p, x: layers.batch_norm(p, x, eps=eps))


def layer_norm(name: str, shapes: Shapes, flow: Flow, *, eps: float = 1e-5) -> Built:
    """``nn.LayerNorm`` over the last axis."""
    if flow.channels is not None and flow.flat is None:
        raise ValueError(
            f"module {name!r}: a LayerNorm behind images normalises (channels, ...) in torch, which is not "
            "read; give kind 'group_norm' if it is one"
        )
    rows = optional_rows(name, shapes, AFFINE, **_order(flow))
    return Built(rows, lambda p, x: layers.layer_norm(p, x, eps=eps))


def group_norm(name: str, shapes: Shapes, flow: Flow, *, groups: int, eps: float = 1e-5) -> Built:
    """``nn.GroupNorm``; with as many groups as channels an affine ``nn.InstanceNorm``."""
    rows = optional_rows(name, shapes, AFFINE)
    return Built(rows, lambda p, x: layers.group_norm(p, x, groups=groups, eps=eps))


def prelu(name: str, shapes: Shapes, flow: Flow) -> Built:
    """``nn.PReLU``, one slope or one for each channel."""

    def apply(p: Any, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, p["slope"] * x)

    many = shapes["weight"][0] > 1
    return Built([row(name, "weight", "slope", **(_order(flow) if many else {}))], apply)


def _order(flow: Flow) -> dict[str, Any]:
    """Vectors behind flattened images are put in our order, too."""
    return {} if flow.flat is None else {"layout": FLAT_VECTOR, "channels": flow.flat}
