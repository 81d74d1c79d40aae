"""Hugging Face folders, config.json and safetensors, into ``(fn, params)`` and back; no transformers.

Families: GPT-2, Llama, ViT. A folder that is written is one that ``transformers`` opens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..safetensors_folder import CONFIG, read_json, read_safetensors, write_json, write_safetensors
from ..tensors import Network, read_params, write_state
from . import gpt2, llama, vit

FAMILIES: Mapping[str, ModuleType] = {"gpt2": gpt2, "llama": llama, "vit": vit}


def huggingface_network(config: Mapping[str, Any], *, ignore: tuple[str, ...] = ()) -> Network:
    """The function that a config.json describes, without weights.

    Args:
        config: the fields of config.json.
        ignore: names of fields that may be passed over though they are not known here.

    Raises:
        ValueError: the family or a field that changes the function is not supported.

    Example:
        >>> network = huggingface_network({"model_type": "gpt2", "vocab_size": 9, "n_positions": 4,
        ...                                "n_embd": 4, "n_layer": 1, "n_head": 2})
        >>> network.tensors[0].name
        'transformer.wte.weight'
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ValueError(f"model_type {family!r} is not supported: only {', '.join(FAMILIES)}")
    if config.get("quantization_config"):
        raise ValueError(
            "the weights are quantised, which is not supported; give those they came from"
        )
    return getattr(FAMILIES[family], family)(config, ignore)


def from_huggingface(
    folder: str | os.PathLike, dtype: Any = None, *, ignore: tuple[str, ...] = ()
) -> tuple[Network, dict]:
    """Read a folder that ``save_pretrained`` wrote.

    Args:
        folder: with config.json and safetensors, one file or shards.
        dtype: of the parameters; None keeps that of the file.
        ignore: names of config fields that may be passed over though they are not known here.

    Returns:
        ``(fn, params)``. ``fn(params, inputs)`` is pure, in evaluation, batch in front: token ids
        (batch, tokens) for GPT-2 and Llama, images (batch, height, width, channels), channels last, for
        ViT. ``params`` is a nested dict under the names of the file, kernels (in, out) and
        (height, width, in, out). ``fn.config`` is the config.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a field that changes the function is not supported, or tensors are missing, left over
            or of the wrong shape.

    Example:
        >>> import json, pathlib, tempfile, numpy as np
        >>> config = {"model_type": "gpt2", "vocab_size": 9, "n_positions": 4, "n_embd": 4,
        ...           "n_layer": 0, "n_head": 2}
        >>> names = {"wte.weight": (9, 4), "wpe.weight": (4, 4), "ln_f.weight": (4,), "ln_f.bias": (4,)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        ...     write_safetensors({k: np.ones(s, "float32") for k, s in names.items()}, folder)
        ...     fn, params = from_huggingface(folder)
        >>> fn(params, np.array([[1, 2, 3]])).shape
        (1, 3, 9)
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    network = huggingface_network(config, ignore=ignore)
    state = _named_as_expected(read_safetensors(folder), network, FAMILIES[config["model_type"]])
    _check_leftovers(state, network)
    return network, read_params(state, network.tensors, dtype)


def to_huggingface(
    params: Any,
    config: Mapping[str, Any],
    folder: str | os.PathLike,
    *,
    ignore: tuple[str, ...] = (),
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a folder that ``transformers`` opens by ``from_pretrained``.

    Args:
        params: as `from_huggingface` gives them, with new values.
        config: fields of config.json, as in ``fn.config``; its dtype is set to that of ``params``.
        folder: made if it is missing.
        ignore: as for `from_huggingface`.
        max_shard_bytes: how much one file may hold.

    Raises:
        ValueError: params do not belong to the config.
    """
    network = huggingface_network(config, ignore=ignore)
    state = write_state(params, network.tensors)
    dtypes = {str(array.dtype) for array in state.values()}
    if len(dtypes) > 1:
        raise ValueError(
            f"params have dtypes {sorted(dtypes)}; cast them to one, the config names one"
        )
    config = dict(config)
    config["dtype" if "dtype" in config or "torch_dtype" not in config else "torch_dtype"] = (
        dtypes.pop()
    )
    config.setdefault("architectures", [FAMILIES[config["model_type"]].HEADS[0]])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(state, folder, max_shard_bytes=max_shard_bytes)
    write_json(folder / CONFIG, config)


def _named_as_expected(
    state: dict[str, np.ndarray], network: Network, family: ModuleType
) -> dict[str, np.ndarray]:
    """Names with the prefix of the class that the config names, and without buffers."""
    prefix = family.PREFIX
    base = [row.name.removeprefix(prefix) for row in network.tensors]
    headed = any(row.name.startswith(prefix) for row in network.tensors)
    named = {}
    for name, array in state.items():
        bare = name.removeprefix(prefix)
        if re.fullmatch(family.BUFFERS, bare):
            continue
        inside = bare in base and prefix + bare in {row.name for row in network.tensors}
        named[prefix + bare if headed and inside else name if headed else bare] = array
    return named


def _check_leftovers(state: dict[str, np.ndarray], network: Network) -> None:
    """Every tensor of the file must have its place; a tied head may be there a second time."""
    left = set(state) - {row.name for row in network.tensors}
    for name in left & {"lm_head.weight"}:
        embedding = next(row.name for row in network.tensors if row.path[-1] == "embedding")
        if not np.array_equal(state[name], state[embedding]):
            raise ValueError(
                f"{name!r} differs from {embedding!r}, though the config ties them: set "
                "`tie_word_embeddings` to false in config.json if the head is its own"
            )
        left.remove(name)
    if left:
        raise ValueError(
            f"no place for tensors {', '.join(map(repr, sorted(left)[:5]))}: the config says nothing of them"
        )
