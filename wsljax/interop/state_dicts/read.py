"""``from_state_dict`` and ``to_state_dict``: torch's state dicts as ``(fn, params)`` and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..tensors import Network, as_numpy, is_weight, read_params, write_state
from .operations import settings_of
from .program import Layer, compile_layers
from .resnet import is_resnet, resnet
from .sequential import plan_sequential
from .vgg import is_vgg, plan_vgg

ARCHITECTURES = ("auto", "sequential", "resnet", "vgg")
WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile


def from_state_dict(
    state_dict: Mapping[str, Any],
    architecture: str | Sequence[Layer] = "auto",
    *,
    dtype: Any = None,
    ignore: Sequence[str] = (),
    **options: Any,
) -> tuple[Network, dict]:
    """Read a torch state dict.

    The weights do not say everything. Strides, padding, activations, pooling, the number of heads and what
    is read of a sequence are options, and their absence is an error where it matters.

    Args:
        state_dict: name -> tensor: of torch, numpy or jax; as `read_torch` gives it.
        architecture: one of

            - "auto": ResNets and VGGs by the names of their modules, everything else as "sequential";
            - "sequential": modules one after another in the order of the state dict; kernels that could be either
              are read as dense layers and plain convolutions;
            - "resnet", "vgg": as torchvision names them;
            - a list of layers in the order in which they are computed. Each is the name of a module, of an
              activation or of an operation (flatten, max_pool, mean_pool, adaptive_mean_pool, global_mean,
              last_token, mean_tokens, ...), a function of one array, or a pair of such a name and its
              settings, as in ``("conv1", {"stride": 2, "padding": 1})``.
        dtype: of the parameters; None keeps that of each tensor.
        ignore: regular expressions for names of tensors that the function does not read. They are kept
            beside the parameters.
        **options: settings by name, for every layer that has one: ``stride``, ``padding``, ``dilation``,
            ``eps``, ``groups``, ``heads``, ``causal``, ``norm_first``, ``nonlinearity``. For "sequential"
            further ``activation``, ``pool``, ``head``, ``read``, ``norm``, ``embedding``; for "resnet"
            ``stem_stride``, ``stem_pool``, ``shortcut``, ``eps``.

    Returns:
        ``(fn, params)``. ``fn(params, x)`` is pure, in evaluation, batch in front: images
        (batch, height, width, channels), channels last; sequences (batch, tokens, features). ``params`` is a
        nested dict under the names of the modules with kernels (in, out), or (height, width, in, out).
        Dense kernels that read flattened images have their inputs in the order (height, width, channels).

    Raises:
        ValueError: the weights do not tell something that is not said, or tensors are left over.
        TypeError: an entry is not a tensor, or an option is not known.

    Example:
        >>> import numpy as np
        >>> state = {"0.weight": np.ones((3, 2), "float32"), "0.bias": np.ones(3, "float32"),
        ...          "2.weight": np.ones((1, 3), "float32"), "2.bias": np.ones(1, "float32")}
        >>> fn, params = from_state_dict(state, activation="tanh")
        >>> params["0"]["kernel"].shape, fn(params, np.ones((5, 2), "float32")).shape
        ((2, 3), (5, 1))
        >>> from_state_dict(state)
        Traceback (most recent call last):
            ...
        ValueError: the weights do not tell the activation: pass activation='relu' or another of ...
    """
    state = {name: as_numpy(name, value) for name, value in state_dict.items()}
    wrapper = _wrapper(state)
    weights = {
        name.removeprefix(wrapper): array
        for name, array in state.items()
        if is_weight(array) and not any(re.search(pattern, name) for pattern in ignore)
    }
    if not weights:
        raise ValueError("the state dict has no floating-point tensors")
    shapes = {name: array.shape for name, array in weights.items()}
    if isinstance(architecture, str) and architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}"
        )
    if architecture == "auto":
        architecture = "resnet" if is_resnet(shapes) else "vgg" if is_vgg(shapes) else "sequential"
    if architecture == "resnet":
        unknown = sorted(set(options) - settings_of(resnet).keys())
        if unknown:
            raise TypeError(
                f"resnet has no option {unknown[0]!r}; it has {', '.join(settings_of(resnet))}"
            )
        rows, apply = resnet(shapes, **options)
    elif architecture == "vgg":
        rows, apply = compile_layers(shapes, plan_vgg(shapes), options)
    elif architecture == "sequential":
        rows, apply = compile_layers(shapes, *plan_sequential(shapes, options))
    else:
        rows, apply = compile_layers(shapes, architecture, options)
    left = sorted(set(weights) - {row.name for row in rows})
    if left:
        raise ValueError(
            f"tensors {', '.join(map(repr, left[:5]))} are read by no layer: name their modules in a list of "
            "layers as `architecture`, or pass their names in `ignore`"
        )
    params = read_params(weights, rows, dtype)
    rows = tuple(row._replace(name=wrapper + row.name) for row in rows)
    rest = {name: array for name, array in state.items() if name not in {row.name for row in rows}}
    kept = {"names": tuple(state), "architecture": architecture, **options}
    return Network(apply, rows, rest, kept), params


def to_state_dict(params: Any, network: Network) -> dict[str, np.ndarray]:
    """The state dict that a network was read from, with the values of ``params``.

    Args:
        params: as `from_state_dict` gave them, with new values.
        network: the function that came with them.

    Returns:
        ``{name: numpy array}`` in the names, order and layouts of the file; what was not a weight
        (``num_batches_tracked``, for instance) as it was read.

    Raises:
        ValueError: params lack a weight or have others.

    Example:
        >>> import numpy as np
        >>> state = {"weight": np.arange(6, dtype="float32").reshape(3, 2)}
        >>> fn, params = from_state_dict(state)
        >>> to_state_dict(params, fn)["weight"].tolist() == state["weight"].tolist()
        True
    """
    state = {**network.rest, **write_state(params, network.tensors)}
    return {name: state[name] for name in network.config.get("names", state)}


def _wrapper(state: Mapping[str, Any]) -> str:
    """The prefix that a wrapper puts before every name."""
    found = ""
    while True:
        more = next((w for w in WRAPPERS if all(n.startswith(found + w) for n in state)), None)
        if not more or not state:
            return found
        found += more
