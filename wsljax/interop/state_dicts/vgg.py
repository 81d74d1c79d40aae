"""VGG (Simonyan & Zisserman 2015) as torchvision names it: ``features.N`` and ``classifier.N``.

The numbers tell all: a convolution, perhaps its BatchNorm, a ReLU, and a max pool where one number more is
left out.
"""

from __future__ import annotations

import re

from .modules import Shapes
from .program import Layer, shapes_of

#: Convolutions between max pools in VGG 11, 13, 16 and 19.
STAGES = ((1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4))


def is_vgg(shapes: Shapes) -> bool:
    """Whether the numbers of the modules are those of VGG 11, 13, 16 or 19, with or without BatchNorm."""
    convolutions = _numbers("features", shapes, rank=4)
    expected = []
    for stages in STAGES:
        for step in (2, 3):
            at, numbers = 0, []
            for count in stages:
                numbers += [at + step * i for i in range(count)]
                at += step * count + 1
            expected.append(numbers)
    kernels = {shapes[f"features.{n}.weight"][2:] for n in convolutions}
    return convolutions in expected and kernels == {(3, 3)}


def plan_vgg(shapes: Shapes) -> list[Layer]:
    """Layers for ``compile_layers``.

    Raises:
        ValueError: the state dict has other modules.
    """
    convolutions = _numbers("features", shapes, rank=4)
    dense = _numbers("classifier", shapes, rank=2)
    single = "classifier.weight" in shapes  # classifier is a layer, not a list of them
    if not convolutions or not (dense or single):
        raise ValueError("a VGG has modules features.N and classifier.N; these were not found")
    layers: list[Layer] = []
    last = max(int(m[1]) for n in shapes if (m := re.match(r"features\.(\d+)\.", n)))
    for here, after in zip(convolutions, [*convolutions[1:], None]):
        layers.append((f"features.{here}", {"stride": 1, "padding": 1}))
        normed = f"features.{here + 1}.running_mean" in shapes
        if normed:
            layers.append(f"features.{here + 1}")
        layers.append("relu")
        gap = (after if after is not None else last + 3) - here - normed
        if gap not in (2, 3):
            raise ValueError(
                f"features.{here}: {gap - 1} modules without weights before the next convolution; in a VGG "
                "it is a ReLU and at most one max pool. Pass a list of layers as `architecture`"
            )
        if gap == 3:
            layers.append(("max_pool", {"size": 2, "stride": 2}))
    first = f"classifier.{dense[0]}" if dense else "classifier"
    channels = shapes[f"features.{convolutions[-1]}.weight"][0]
    places, left = divmod(shapes_of(first, shapes)["weight"][1], channels)
    side = round(places**0.5)
    if left or side**2 != places:
        raise ValueError(
            f"{first}: its inputs are not {channels} channels times a square of places"
        )
    layers += [("adaptive_mean_pool", {"size": side}), "flatten"]
    for name in [f"classifier.{n}" for n in dense] or ["classifier"]:
        layers += [name, "relu"]
    return layers[:-1]


def _numbers(list_name: str, shapes: Shapes, rank: int) -> list[int]:
    """Numbers of the modules of ``list_name`` with weights of that rank."""
    found = (
        int(match[1])
        for name, shape in shapes.items()
        if (match := re.fullmatch(rf"{list_name}\.(\d+)\.weight", name)) and len(shape) == rank
    )
    return sorted(found)
