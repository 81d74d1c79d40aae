"""ResNets (He et al. 2016) as torchvision names them, and their CIFAR variants.

Names: ``conv1``, ``bn1``, ``layerS.B.convN``, ``layerS.B.bnN``, ``layerS.B.downsample`` or ``.shortcut``,
``fc`` or ``linear``. A 7x7 first convolution has stride 2 and a max pool behind it, as in torchvision; a 3x3
one has stride 1 and no pool, as for CIFAR. The first block of each stage but the first has stride 2, in a
bottleneck at its 3x3 convolution. ResNeXts and wide ResNets have the same names and are read, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import layers
from ..tensors import Tensor
from .modules import Flow, Shapes, batch_norm, convolution, dense
from .operations import max_pool
from .program import shapes_of


def is_resnet(shapes: Shapes) -> bool:
    """Whether the modules have the names of a ResNet."""
    return all(f"{n}.weight" in shapes for n in ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1"))


def resnet(
    shapes: Shapes,
    *,
    stem_stride: int | None = None,
    stem_pool: bool | None = None,
    shortcut: str | None = None,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Callable[..., Any]]:
    """Rows and ``fn(params, images (batch, height, width, channels)) -> logits``.

    Args:
        shapes: of the weights.
        stem_stride, stem_pool: of the first convolution, where they are not those said above.
        shortcut: "pad" for networks that pad channels with zeros, on both sides, where a stage begins, and
            have no weights there (option A of the paper); asked for where the weights are missing.
        eps: of the BatchNorms.

    Raises:
        ValueError: a module is missing or of another kind.
    """
    if not is_resnet(shapes):
        raise ValueError(
            "a ResNet has modules conv1, bn1, layer1.0.conv1, ...; these were not found"
        )
    rows: list[Tensor] = []

    def conv(name: str, stride: int) -> Callable[..., Any]:
        own = shapes_of(name, shapes)
        if "weight" not in own:
            raise ValueError(f"module {name!r} is missing")
        padding = own["weight"][2] // 2
        built = convolution(name, own, Flow(), stride=stride, padding=padding)
        rows.extend(built.tensors)
        return built.apply

    def norm(name: str) -> Callable[..., Any]:
        own = shapes_of(name, shapes)
        if "running_mean" not in own:
            raise ValueError(f"module {name!r} is no BatchNorm with running statistics: {own}")
        built = batch_norm(name, own, Flow(), eps=eps)
        rows.extend(built.tensors)
        return built.apply

    kernel = shapes["conv1.weight"][2]
    stride = (2 if kernel == 7 else 1) if stem_stride is None else stem_stride
    pooled = kernel == 7 if stem_pool is None else stem_pool
    stem, stem_norm = conv("conv1", stride), norm("bn1")
    pool = max_pool(Flow(), size=3, stride=2, padding=1)
    blocks = _blocks(shapes)
    runs = [
        _block(name, shapes, 2 if i == 0 and stage > 1 else 1, conv, norm, shortcut)
        for stage, count in enumerate(blocks, start=1)
        for i, name in enumerate(f"layer{stage}.{k}" for k in range(count))
    ]
    head = next((n for n in ("fc", "linear") if f"{n}.weight" in shapes), None)
    if head:
        rows += dense(head, shapes_of(head, shapes), Flow()).tensors

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(stem_norm(params["bn1"], stem(params["conv1"], x)))
        x = pool(x) if pooled else x
        for path, run in runs:
            x = run(params[path[0]][path[1]], x)
        x = x.mean((1, 2))
        return layers.dense(params[head], x) if head else x

    return rows, apply


def _blocks(shapes: Shapes) -> list[int]:
    """How many blocks each stage has."""
    found = {(int(m[1]), int(m[2])) for n in shapes if (m := re.match(r"layer(\d+)\.(\d+)\.", n))}
    return [sum(s == stage for s, _ in found) for stage in range(1, max(s for s, _ in found) + 1)]


def _block(name, shapes, stride, conv, norm, shortcut) -> tuple[list[str], Callable[..., Any]]:
    """A basic block, or a bottleneck if it has a third convolution."""
    depth = 3 if f"{name}.conv3.weight" in shapes else 2
    strides = (1, stride, 1) if depth == 3 else (stride, 1)
    main = [
        (conv(f"{name}.conv{i}", s), norm(f"{name}.bn{i}")) for i, s in enumerate(strides, start=1)
    ]
    side = next((s for s in ("downsample", "shortcut") if f"{name}.{s}.0.weight" in shapes), None)
    into = shapes[f"{name}.conv1.weight"][1]
    out = shapes[f"{name}.conv{depth}.weight"][0]
    if side:
        project = conv(f"{name}.{side}.0", stride)
        normed = f"{name}.{side}.1.weight" in shapes
        side_norm = norm(f"{name}.{side}.1") if normed else lambda p, x: x
    elif (stride, into) != (1, out) and shortcut != "pad":
        raise ValueError(
            f"block {name!r} turns {into} channels into {out} and has no weights in its shortcut: pass "
            "shortcut='pad' if channels are padded with zeros (option A)"
        )
    extra = out - into

    def apply(p: Any, x: jax.Array) -> jax.Array:
        h = x
        for i, (c, n) in enumerate(main, start=1):
            h = n(p[f"bn{i}"], c(p[f"conv{i}"], h))
            h = jax.nn.relu(h) if i < depth else h
        if side:
            x = side_norm(p[side].get("1"), project(p[side]["0"], x))
        elif stride != 1 or extra:
            x = x[:, ::stride, ::stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))
        return jax.nn.relu(x + h)

    return name.split("."), apply
