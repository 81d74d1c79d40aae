"""Rotary positions (Su et al. 2021), pairs of dims a half apart, with the scalings of Llama's configs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("default", "linear", "llama3")
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def frequencies(config: Mapping[str, Any], dims: int) -> np.ndarray:
    """Angle per position of each pair of dims, (dims // 2,), as the config has it.

    Reads ``rope_parameters``, or ``rope_theta`` and ``rope_scaling`` of older configs.

    Raises:
        ValueError: the scaling is not among "default", "linear" and "llama3", or lacks a number.

    Example:
        >>> frequencies({"rope_theta": 100.0}, 4)
        array([1. , 0.1])
    """
    if dims % 2:
        raise ValueError(
            f"config: heads have {dims} dims; rotary positions turn pairs, so they must be even"
        )
    rope: dict[str, Any] = {"rope_theta": config.get("rope_theta") or 10000.0}
    rope |= config.get("rope_scaling") or {}
    rope |= config.get("rope_parameters") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    known = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
    known |= {"linear": {"factor"}, "llama3": set(LLAMA3)}.get(kind, set())
    if kind not in KINDS:
        raise ValueError(
            f"config: rotary scaling {kind!r} is not supported: only {', '.join(KINDS)}"
        )
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ValueError(
            "config: partial_rotary_factor must be 1; rotating a part is not supported"
        )
    unknown = [name for name in rope if name not in known and rope[name] is not None]
    missing = [
        name for name in known - {"type", "partial_rotary_factor", "rope_type"} if name not in rope
    ]
    if unknown or missing:
        raise ValueError(
            f"config: rotary scaling {kind!r} has unknown {sorted(unknown)}, lacks {sorted(missing)}"
        )
    base = float(rope["rope_theta"]) ** -(np.arange(0, dims, 2) / dims)
    if kind == "linear":
        return base / rope["factor"]
    return _llama3(base, rope) if kind == "llama3" else base


def _llama3(base: np.ndarray, rope: Mapping[str, Any]) -> np.ndarray:
    """Long waves are slowed by ``factor``, short ones kept, those between interpolated (Llama 3.1)."""
    turns = rope["original_max_position_embeddings"] * base / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return base * (kept + (1 - kept) / rope["factor"])


def rotate(x: jax.Array, freqs: np.ndarray) -> jax.Array:
    """Turn pairs (i, i + dims / 2) of x (batch, tokens, ..., dims) by position times frequency."""
    angles = (
        np.arange(x.shape[1])[:, None] * freqs
    )  # in float64, on the host: constants of the trace
    angles = angles.reshape(-1, *(1,) * (x.ndim - 3), freqs.size)
    cos, sin = jnp.asarray(np.cos(angles), x.dtype), jnp.asarray(np.sin(angles), x.dtype)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
