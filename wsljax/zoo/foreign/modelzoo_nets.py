"""The networks of the ModelZoos collection (Schürholt et al. 2022), from their state dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wsljax.zoo.foreign.registry import ForeignZooError
from wsljax.zoo.foreign.stacking import flatten_last, jax_kernel, layers_of

#: Their names of activations, and ours; torch's GELU is the exact one.
ACTIVATION_NAMES = {
    "tanh": "tanh",
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "gelu": "gelu_exact",
    "elu": "elu",
    "celu": "elu",
    "none": "linear",
}
_PREFIX = "module_list."


class Net(NamedTuple):
    """A network and what it computes.

    Attributes:
        params: its weights.
        settings: of the architecture "layered", but for the activation; None if not known.
        key: says which networks can be stacked.
    """

    params: dict[str, Any]
    settings: dict[str, Any] | None
    key: str


def read_net(state: Any, config: Mapping[str, Any], where: str) -> Net:
    """A small network of theirs in our layout, any other as its arrays under torch's names.

    Their `CNN` has 28 x 28 images, three convolutions without padding and pooling after the first
    two; their `CNN3` 32 x 32 images and pooling after all three; pooling comes before the
    activation. Which one it is shows in the inputs of the first dense layer.

    Raises:
        ForeignZooError: layers that do not follow each other; names the file.
    """
    layers = layers_of(state, where)
    small = all(
        name.startswith(_PREFIX) and set(layer) <= {"weight", "bias"} for name, layer in layers
    )
    if not small or not all(layer.get("weight", np.zeros(0)).ndim in (2, 4) for _, layer in layers):
        arrays = {name: value for name, value in state.items()}
        shapes = ";".join(f"{name}{value.shape}" for name, value in arrays.items())
        return Net(arrays, None, f"{config.get('model::type', 'network')}:{shapes}")
    kinds = ["conv" if layer["weight"].ndim == 4 else "dense" for _, layer in layers]
    count = kinds.count("conv")
    if kinds != ["conv"] * count + ["dense"] * (len(kinds) - count) or count == len(kinds):
        raise ForeignZooError(f"{where}: layers of kinds {kinds}.")
    kernels = [jax_kernel(layer["weight"]) for _, layer in layers]
    params = {}
    for i, ((_, layer), kernel) in enumerate(zip(layers, kernels)):
        last = kernels[i - 1].shape[-1] if i else None
        if i and i != count and kernel.shape[-2] != last:
            raise ForeignZooError(f"{where}: layer {i} has {kernel.shape[-2]} inputs, not {last}.")
        if i == count > 0:
            kernel = flatten_last(kernel, kernels[i - 1].shape[-1])
        name = f"conv_{i}" if i < count else f"dense_{i - count}"
        params[name] = {"kernel": kernel} | ({"bias": layer["bias"]} if "bias" in layer else {})
    settings = _settings(kernels, count, where)
    shapes = "-".join("x".join(map(str, kernel.shape)) for kernel in kernels)
    bias = "bias" if "bias" in layers[0][1] else "no bias"
    return Net(params, settings, f"{'cnn' if count else 'mlp'} {shapes} {bias}")


def _settings(kernels: Sequence[np.ndarray], count: int, where: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if count:
        size, pooled = _geometry(kernels, count, where)
        for i, kernel in enumerate(kernels[:count]):
            conv = {"kind": "conv", "name": f"conv_{i}", "out": kernel.shape[-1]}
            steps.append(conv | {"kernel": kernel.shape[0]})
            steps += [{"kind": "max_pool", "size": 2}] * (i < pooled) + [{"kind": "activation"}]
        steps.append({"kind": "flatten"})
        shape = (size, size, kernels[0].shape[2])
    else:
        shape = kernels[0].shape[:1]
    for i, kernel in enumerate(kernels[count:]):
        steps.append({"kind": "dense", "name": f"dense_{i}", "out": kernel.shape[-1]})
        steps += [{"kind": "activation"}] * (i < len(kernels) - count - 1)
    return {"input_shape": shape, "steps": steps}


def _geometry(kernels: Sequence[np.ndarray], count: int, where: str) -> tuple[int, int]:
    """The side of the images and the number of convolutions with pooling."""
    wide, out = kernels[count].shape[0], kernels[count - 1].shape[-1]
    for size, pooled in ((28, 2), (32, count)):
        side = size
        for i, kernel in enumerate(kernels[:count]):
            side = side - kernel.shape[0] + 1
            side = side // 2 if i < pooled else side
        if side > 0 and side * side * out == wide:
            return size, pooled
    raise ForeignZooError(
        f"{where}: the dense layer has {wide} inputs, which neither 28 x 28 images with two poolings "
        f"nor 32 x 32 images with {count} give."
    )


def activation_names(configs: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """Our name of each network's activation.

    Raises:
        ForeignZooError: a configuration without one, or with one that is not known.
    """
    found = [str(config.get("model::nlin")) for config in configs]
    unknown = sorted({name for name in found if name not in ACTIVATION_NAMES})
    if unknown:
        raise ForeignZooError(
            f"{where}: 'model::nlin' is {', '.join(unknown)}; known: {', '.join(ACTIVATION_NAMES)}."
        )
    return [ACTIVATION_NAMES[name] for name in found]
