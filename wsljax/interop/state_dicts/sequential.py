"""The list of layers of a plain MLP, CNN, recurrent or encoder network, from its state dict.

Modules run one after another in the order of the state dict, which is that of ``__init__`` in torch; for
branches and residual sums there is no reading off. What stands between them
is not in the file: activation, strides, padding, pooling and how a sequence or an image becomes one vector
must be said, and are asked for where they matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..activations import ACTIVATIONS
from .modules import Shapes
from .program import KINDS, Layer, kind_of, module_names, shapes_of

NORMS = ("batch_norm", "layer_norm", "group_norm")
POOLS = {"max": "max_pool", "mean": "mean_pool"}
SEQUENCES = {"last": ["last_token"], "first": ["first_token"], "mean": ["mean_tokens"], "all": []}
SEQUENTIAL = ("recurrent", "encoder", "attention")
HEADS = ("flatten", "mean", "max")


def plan_sequential(
    shapes: Shapes, options: Mapping[str, Any]
) -> tuple[list[Layer], dict[str, Any]]:
    """Layers for ``compile_layers``, and the options that go on to it.

    Options read here:
        activation: name or function, after every dense layer and convolution (and the norm behind it) but
            the last.
        stride, padding: of the convolutions, for all or a list with one for each.
        pool: behind the activation of a convolution: "none", "max" or "mean" (size 2), a pair such as
            ("max", 3) or ("max", {"size": 3, "stride": 2}), or a list with one for each convolution.
        head: how images become vectors: "flatten", "mean" or "max" over places.
        read: how a sequence becomes the input of the layers behind it: "last", "first", "mean", "all".
        norm: what modules with a weight vector and no statistics are: "layer_norm" or "group_norm".
        embedding: True if a first matrix without bias is one that integers look up.

    Raises:
        ValueError: something that matters is not said.
    """
    names = module_names(shapes)
    kinds = _kinds(names, shapes, options)
    weighty = [n for n in names if kinds[n] in ("dense", "convolution")]
    convolutions = [n for n in names if kinds[n] == "convolution"]
    sequences = any(k in SEQUENTIAL for k in kinds.values())
    per_conv = {
        option: _one_for_each(option, options.get(option), len(convolutions))
        for option in ("stride", "padding", "pool")
    }
    after_activation = len(weighty) > 1
    if after_activation and options.get("activation") is None:
        raise ValueError(
            "the weights do not tell the activation: pass activation='relu' or another of "
            + ", ".join(ACTIVATIONS)
        )
    first_sequence = min((i for i, n in enumerate(names) if kinds[n] in SEQUENTIAL), default=0)
    if any(names.index(n) < first_sequence for n in weighty) or (
        "encoder" in kinds.values() and len(weighty) > 1
    ):
        raise ValueError(
            f"modules {', '.join(names)}: what stands between a sequence's modules and {weighty[0]!r} is not "
            "known; pass a list of layers as `architecture`"
        )
    slopes = options.get("activation") == "prelu"  # then they are modules, which are in the list
    layers: list[Layer] = []
    places = bool(convolutions) and not sequences
    unread = False  # whether there is a sequence of which a dense layer must be told what it reads
    pending: list[Layer] = []  # what follows a layer once the norm behind it has come
    for name in names:
        kind = kinds[name]
        if kind in NORMS or kind == "prelu":
            layers.append((name, {"kind": kind}))
            continue
        layers += pending
        pending = []
        if kind == "convolution":
            k = convolutions.index(name)
            given = {option: per_conv[option][k] for option in ("stride", "padding")}
            layers.append(
                (name, {"kind": kind, **{o: v for o, v in given.items() if v is not None}})
            )
        else:
            if places and kind == "dense":
                layers += _head(options, shapes, convolutions[-1], name)
                places = False
            if unread and kind == "dense":
                layers += _read(options)
            unread = kind in SEQUENTIAL or unread and kind != "dense"
            layers.append((name, {"kind": kind}))
        if kind in ("dense", "convolution") and name != weighty[-1] and not slopes:
            pending.append(options["activation"])
        if kind == "convolution":
            pending += _pool(per_conv["pool"][convolutions.index(name)], name)
    layers += pending
    if places and options.get("head"):
        layers += _head(options, shapes, convolutions[-1], None)
    read_here = {"activation", "stride", "padding", "pool", "head", "read", "norm", "embedding"}
    rest = {k: v for k, v in options.items() if k not in read_here}
    if any(kind == "encoder" for kind in kinds.values()) and "activation" in options:
        rest["activation"] = options["activation"]
    return layers, rest


def _kinds(names: list[str], shapes: Shapes, options: Mapping[str, Any]) -> dict[str, str]:
    kinds = {}
    for name in names:
        own = shapes_of(name, shapes)
        vector = len(own.get("weight", ())) == 1 and "running_mean" not in own
        if vector and "bias" not in own and options.get("activation") == "prelu":
            kinds[name] = "prelu"
        elif vector and options.get("norm") is not None:
            if options["norm"] not in NORMS:
                raise ValueError(f"norm={options['norm']!r} is not one of {', '.join(NORMS)}")
            kinds[name] = options["norm"]
        else:
            kinds[name] = kind_of(name, own)
    first = names[0]
    if kinds[first] == "dense" and "bias" not in shapes_of(first, shapes) and len(names) > 1:
        kinds[first] = _first_matrix(first, names[1], kinds, shapes, options.get("embedding"))
    assert set(kinds.values()) <= KINDS.keys()
    return kinds


def _first_matrix(
    name: str, after: str, kinds: Mapping[str, str], shapes: Shapes, said: bool | None
) -> str:
    """A matrix without bias at the beginning: a dense layer, or an embedding?"""
    if said is not None:
        return "embedding" if said else "dense"
    rows, columns = shapes_of(name, shapes)["weight"]
    own = shapes_of(after, shapes)
    suffix = {
        "dense": "weight",
        "recurrent": "weight_ih_l0",
        "encoder": "linear1.weight",
        "attention": "in_proj_weight",
    }.get(kinds[after])
    inputs = next((shape[1] for sub, shape in own.items() if suffix and sub.endswith(suffix)), None)
    if inputs == rows and inputs != columns:
        return "dense"
    if inputs == columns and inputs != rows:
        return "embedding"
    raise ValueError(
        f"module {name!r}, {rows} x {columns} without bias, may be a dense layer or an embedding: pass "
        "embedding=True or False"
    )


def _one_for_each(option: str, value: Any, count: int) -> list:
    if isinstance(value, list):
        if len(value) != count:
            raise ValueError(f"{option}: {len(value)} given for {count} convolutions")
        return value
    return [value] * count


def _pool(said: Any, name: str) -> list[Layer]:
    if said is None:
        raise ValueError(
            f"the weights do not tell if pooling follows {name!r}: pass pool='none', 'max', 'mean', "
            "('max', 3), or a list with one for each convolution"
        )
    kind, size = said if isinstance(said, tuple) else (said, 2)
    if kind == "none":
        return []
    if kind not in POOLS:
        raise ValueError(f"pool={said!r}: unknown kind {kind!r}; known: none, {', '.join(POOLS)}")
    return [(POOLS[kind], dict(size) if isinstance(size, Mapping) else {"size": size})]


def _head(options: Mapping[str, Any], shapes: Shapes, last: str, name: str | None) -> list[Layer]:
    head = options.get("head")
    channels = shapes_of(last, shapes)["weight"][0]
    inputs = shapes_of(name, shapes)["weight"][1] if name is not None else None
    if head is None and inputs != channels:
        head = "flatten"  # more inputs than channels: places must be among them
    if head not in HEADS:
        raise ValueError(
            f"{name!r} reads {inputs} numbers from images of {channels} channels: pass head='mean', 'max' "
            f"(over places) or 'flatten'; got {head!r}"
        )
    return ["flatten"] if head == "flatten" else [f"global_{head}"]


def _read(options: Mapping[str, Any]) -> list[Layer]:
    said = options.get("read")
    if said not in SEQUENCES:
        raise ValueError(
            "the weights do not tell which outputs of the sequence are read: pass read="
            + " or ".join(map(repr, SEQUENCES))
            + f"; got {said!r}"
        )
    return SEQUENCES[said]
