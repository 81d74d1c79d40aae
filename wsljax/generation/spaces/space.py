"""A space: networks as what a generator works on, and back."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class Space(eqx.Module):
    """Networks as `x`, any pytree of floating arrays, and back.

    `encode` and `decode` are for one network, pure and traceable; `decode(encode(params))` is `params`, or
    a projection that the space documents. Numbers of `x` are float32 at least; `decode` gives back the
    dtypes, the structure and the leaves that are not floating of the networks that the space was made for.

    A space is fitted on training networks before a generator is: fitting a generator leaves it as it is.

    Attributes:
        like: what `encode` returns, as a tree of `jax.ShapeDtypeStruct`.
    """

    like: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def encode(self, params: Any) -> Any:
        """`x` of one network."""

    @abc.abstractmethod
    def decode(self, x: Any) -> Any:
        """The network of one `x`."""

    @property
    def mask(self) -> Any:
        """Which numbers of `x` mean something: a tree like `x` of 0 and 1, or None where all do.

        What is masked out is padding: it has no noise, no loss, and stays zero in samples.
        """
        return None

    def encode_all(self, params: Any) -> Any:
        """`x` of many networks, `(models, ...)`, outside of `jit`: spaces that align networks on the host
        do so here. By default `encode`, vmapped."""
        params = on_device(params)
        return eqx.filter_vmap(self.encode, in_axes=eqx.if_array(0))(params)

    def decode_all(self, x: Any) -> Any:
        """Many networks, `(models, ...)`."""
        return eqx.filter_vmap(self.decode, in_axes=0, out_axes=eqx.if_array(0))(x)


def checked(space: Any) -> Any:
    """The space itself.

    Raises:
        TypeError: it is something else, such as the networks that a space is fitted on.
    """
    if all(hasattr(space, name) for name in ("like", "encode", "decode")):
        return space
    raise TypeError(
        f"a space is expected, not a {type(space).__name__}: `WeightSpace.fit(networks)`, or another one of "
        "`wsljax.generation.spaces`"
    )


class IdentitySpace(Space):
    """The floating arrays of a network, as they are.

    Example:
        >>> params = {"w": jnp.ones((2, 3), jnp.bfloat16), "steps": jnp.array(7)}
        >>> space = IdentitySpace(params)
        >>> x = space.encode(params)
        >>> x["w"].dtype, x["steps"]
        (dtype('float32'), None)
        >>> back = space.decode(x)
        >>> back["w"].dtype, int(back["steps"])
        (dtype(bfloat16), 7)
    """

    like: Any
    dtypes: tuple[Any, ...] = eqx.field(static=True)
    others: Any

    def __init__(self, params: Any):
        """For networks like `params`: one network, arrays or `jax.ShapeDtypeStruct`."""
        floating, self.others = split_floating(params)
        self.dtypes = tuple(np.dtype(x.dtype) for x in jax.tree.leaves(floating))
        self.like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, wide(x.dtype)), floating)

    def encode(self, params: Any) -> Any:
        floating, _ = split_floating(params)
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), floating, self.like)

    def decode(self, x: Any) -> Any:
        leaves, treedef = jax.tree.flatten(x)
        cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, self.dtypes)]
        return eqx.combine(jax.tree.unflatten(treedef, cast), self.others)


def is_floating(x: Any) -> bool:
    """Whether `x` is an array (or the shape of one) of real floating numbers."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def on_device(params: Any) -> Any:
    """Arrays of numpy as arrays of jax; everything else as it is.

    Example:
        >>> on_device({"w": np.ones(2, np.float32), "name": "mlp"})
        {'name': 'mlp', 'w': Array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, params)


def split_floating(params: Any) -> tuple[Any, Any]:
    """The floating arrays of a network, and everything else; `None` stands where the other part is.

    Example:
        >>> split_floating({"w": jnp.ones(2), "steps": 7})
        ({'steps': None, 'w': Array([1., 1.], dtype=float32)}, {'steps': 7, 'w': None})
    """
    return eqx.partition(params, is_floating)


def wide(dtype: Any) -> Any:
    """The dtype in which numbers of `dtype` are noised and averaged: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)
