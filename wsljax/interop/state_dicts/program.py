"""A list of layers and a state dict, compiled to rows and a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..activations import ACTIVATIONS
from ..tensors import Tensor
from .attention import encoder, self_attention
from .modules import (
    Built,
    Flow,
    Shapes,
    batch_norm,
    convolution,
    dense,
    embedding,
    group_norm,
    layer_norm,
    prelu,
)
from .operations import OPERATIONS, settings_of
from .recurrent import recurrent

Layer = Any  # name, callable, or (name, settings)

KINDS: Mapping[str, Callable[..., Built]] = {
    "attention": self_attention,
    "batch_norm": batch_norm,
    "convolution": convolution,
    "dense": dense,
    "embedding": embedding,
    "encoder": encoder,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "prelu": prelu,
    "recurrent": recurrent,
}


def module_names(shapes: Shapes) -> list[str]:
    """The modules of a state dict, in its order; an attention or an encoder counts as one.

    Example:
        >>> module_names({"0.weight": (3, 2), "0.bias": (3,), "rnn.weight_ih_l0": (12, 3)})
        ['0', 'rnn']
    """
    crossed = [name for name in shapes if re.search(r"multihead_attn\.(in|q)_proj_weight$", name)]
    if crossed and any("self_attn." in name for name in shapes):
        raise ValueError(
            f"tensor {crossed[0]!r} is that of a transformer's decoder, which is not read"
        )
    parts = {_whole(name, shapes) for name in shapes if re.search(r"(in|q)_proj_weight$", name)}
    names: dict[str, None] = {}
    for name in shapes:
        owner = name.rpartition(".")[0]
        inside = [p for p in parts if p == "" or name.startswith(p + ".")]
        names[
            max(inside, key=len) if inside and _belongs(name, max(inside, key=len)) else owner
        ] = None
    return list(names)


def _whole(name: str, shapes: Shapes) -> str:
    """The module of an attention's tensor: the attention, or the encoder that holds it."""
    attention = name.rpartition(".")[0]
    layer = attention.rpartition(".")[0]
    of_layer = f"{layer}.linear1.weight" if layer else "linear1.weight"
    if not re.search(r"(^|\.)self_attn$", attention) or of_layer not in shapes:
        return attention
    return re.sub(r"(^|\.)layers\.\d+$", "", layer)


def _belongs(name: str, part: str) -> bool:
    """Whether a tensor below ``part`` is one of an attention or encoder, not of a neighbour of both."""
    sub = name.removeprefix(part).removeprefix(".")
    inner = r"(layers\.\d+\.)?(self_attn\.|linear[12]\.|norm[12]\.)|norm\.(weight|bias)$"
    bare = r"(in_proj|[qkv]_proj)_(weight|bias)$|bias_[kv]$|out_proj\.(weight|bias)$"
    return bool(re.match(f"{inner}|{bare}", sub))


def shapes_of(name: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The tensors of one module, by their names below it."""
    head = f"{name}." if name else ""
    return {k.removeprefix(head): v for k, v in shapes.items() if k.startswith(head)}


def kind_of(name: str, own: Shapes) -> str:
    """What kind of module it is, by its tensors.

    Raises:
        ValueError: the tensors do not tell.
    """
    if any(re.match(r"(layers\.0\.)?self_attn\.", sub) for sub in own) and any(
        re.match(r"(layers\.0\.)?linear1\.", sub) for sub in own
    ):
        return "encoder"
    if "in_proj_weight" in own or "q_proj_weight" in own:
        return "attention"
    if "weight_hh_l0" in own:
        return "recurrent"
    if "running_mean" in own:
        return "batch_norm"
    rank = len(own.get("weight", ()))
    if rank >= 2:
        return "dense" if rank == 2 else "convolution"
    raise ValueError(
        f"module {name!r} has tensors {dict(own)}, which do not tell what it is: say so, as in "
        f"({name!r}, {{'kind': 'layer_norm'}}); kinds: {', '.join(KINDS)}"
    )


def compile_layers(
    shapes: Shapes, architecture: Sequence[Layer], options: Mapping[str, Any]
) -> tuple[list[Tensor], Callable[..., Any]]:
    """Rows of all layers, and the function that runs them one after another.

    Args:
        shapes: of every weight in the state dict.
        architecture: layers in the order in which they are computed: the name of a module, of an operation
            or an activation, a function of one array, or a pair of a name and its settings.
        options: settings of every layer that has one of that name and is not given its own.

    Raises:
        ValueError: a name is not known, or a setting that the weights do not tell is missing.
    """
    flow, rows, steps, used = Flow(), [], [], set()
    modules = module_names(shapes)
    for layer in architecture:
        name, given = layer if isinstance(layer, (tuple, list)) else (layer, {})
        if callable(name):
            steps.append(((), _ignoring_params(name)))
        elif name in modules:
            own = shapes_of(name, shapes)
            kind = given.get("kind") or kind_of(name, own)
            if kind not in KINDS:
                raise ValueError(
                    f"module {name!r}: unknown kind {kind!r}; known: {', '.join(KINDS)}"
                )
            rest = {k: v for k, v in given.items() if k != "kind"}
            kw = _settings(KINDS[kind], f"module {name!r} ({kind})", rest, options, used)
            built = KINDS[kind](name, own, flow, **kw)
            rows += built.tensors
            steps.append((tuple(name.split(".")) if name else (), built.apply))
        elif name in OPERATIONS:
            kw = _settings(OPERATIONS[name], f"operation {name!r}", given, {}, used)
            steps.append(((), _ignoring_params(OPERATIONS[name](flow, **kw))))
        elif name in ACTIVATIONS and not given:
            steps.append(((), _ignoring_params(ACTIVATIONS[name])))
        else:
            raise ValueError(
                f"layer {layer!r} is no module of the state dict ({', '.join(modules)}), no operation "
                f"({', '.join(OPERATIONS)}) and no activation ({', '.join(ACTIVATIONS)})"
            )
    unused = sorted(set(options) - used)
    if unused:
        raise TypeError(f"no layer has a setting {', '.join(map(repr, unused))}")
    return _once(rows), _chain(steps)


def _chain(steps: list) -> Callable[..., Any]:
    def apply(params: Any, *inputs: Any) -> Any:
        for path, step in steps:
            node = params
            for part in path:
                node = node[part]
            inputs = (step(node, *inputs),)
        return inputs[0]

    return apply


def _ignoring_params(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, *inputs: function(*inputs)


def _once(rows: list[Tensor]) -> list[Tensor]:
    """A module may be used twice, but must be read alike."""
    known: dict[str, Tensor] = {}
    for row in rows:
        if known.setdefault(row.name, row) != row:
            raise ValueError(f"tensor {row.name!r} is used twice, with inputs in different orders")
    return list(known.values())


def _settings(
    builder: Callable[..., Any], what: str, given: Mapping, options: Mapping, used: set[str]
) -> dict[str, Any]:
    known = settings_of(builder)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{what}: unknown setting {unknown[0]!r}; known: {', '.join(known)}")
    used |= known.keys() & options.keys()
    kw = {**{k: v for k, v in options.items() if k in known and v is not None}, **given}
    missing = [name for name, must in known.items() if must and name not in kw]
    if missing:
        raise ValueError(
            f"{what}: the weights do not tell {', '.join(missing)}: pass {missing[0]}=... or "
            f"(name, {{{missing[0]!r}: ...}}) in the list of layers"
        )
    return kw
