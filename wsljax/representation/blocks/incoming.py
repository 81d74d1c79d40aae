"""What is handed in, checked in the same words by every method: blocks of weights and their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp


def floating(blocks: Mapping[str, jax.Array]) -> jnp.dtype:
    """The dtype of the floating blocks; counters and masks among them are taken as numbers.

    Raises:
        ValueError: for a block that is no array of numbers.

    Example:
        >>> floating({"w": jnp.ones(3, jnp.bfloat16), "steps": jnp.zeros((), int)})
        dtype(bfloat16)
    """
    for name, x in blocks.items():
        if not jnp.issubdtype(x.dtype, jnp.number) and x.dtype != jnp.bool_:
            raise ValueError(
                f"block {name!r} has dtype {x.dtype} and cannot be read as a weight; leave it out of "
                "the weights, for instance as an input of the function"
            )
    found = [x.dtype for x in blocks.values() if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.result_type(*found or [jnp.float32])


def block_of(
    blocks: Mapping[str, jax.Array], name: str, shape: tuple[int, ...], c_in: int | None = None
) -> jax.Array:
    """The block of that name, which must have that shape, and then ``c_in`` channels if there are such.

    Raises:
        ValueError: it has another shape.
    """
    x = blocks[name]
    expected = shape + (() if c_in is None else (c_in,))
    if x.shape != expected:
        hint = "; for a stack of networks use jax.vmap" if x.shape[1:] == expected else ""
        raise ValueError(f"block {name!r} has shape {x.shape}; expected {expected}{hint}")
    return x


def check_scales(scales: Mapping[str, float] | None, names: Iterable[str]) -> None:
    """That ``scales`` names nothing but those blocks.

    Raises:
        ValueError: it does.
    """
    unknown = sorted(set(scales or ()) - set(names))
    if unknown:
        raise ValueError(f"`scales` names blocks that the spec does not have: {unknown[:5]}")
