"""flax.linen modules as ``(fn, params)`` and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .trees import merge_leaves, nested, split_floats


def from_linen(
    module: Any,
    variables: Any = None,
    *inputs: Any,
    key: jax.Array | None = None,
    method: str | Callable[..., Any] | None = None,
    mutable: bool | str | Sequence[str] = False,
    rngs: dict[str, jax.Array] | None = None,
    **kwargs: Any,
) -> tuple[Callable[..., Any], dict]:
    """A pure function of a linen module's variables.

    Args:
        module: a ``flax.linen.Module``.
        variables: what ``module.init`` gave: collections, or the bare "params". None initialises anew.
        *inputs: examples to initialise with, where ``variables`` is None.
        key: to initialise with, where ``variables`` is None.
        method: of the module, where it is not ``__call__``.
        mutable: collections that a call updates, as in ``module.apply``. ``fn`` gives the outputs alone; what
            was updated is thrown away.
        rngs: keys by name, as in ``{"dropout": key}``: the same in each call, so ``fn`` stays a function.
        **kwargs: go on to each call, as in ``train=False``.

    Returns:
        ``(fn, params)`` with ``fn(params, *inputs)``. ``params`` is a plain dict with every floating-point
        variable: running statistics are in it, beside "params", since they move with their units. Integer
        variables (counters) are kept as they are. Metadata boxes (``nn.Partitioned``) are taken off.

    Raises:
        TypeError: ``module`` is not a linen module.
        ValueError: there is nothing to initialise with, or the module draws random numbers and has no key.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> fn, params = from_linen(nn.Dense(3), None, jnp.ones((1, 2)), key=jax.random.key(0))
        >>> params["params"]["kernel"].shape, fn(params, jnp.ones((5, 2))).shape
        ((2, 3), (5, 3))
    """
    from flax import errors
    from flax import linen as nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"`module` is {type(module).__name__}, not a flax.linen.Module instance")
    if variables is None:
        if key is None or not inputs:
            raise ValueError(
                "from_linen needs variables, or a key and example inputs to initialise with: "
                "`from_linen(module, None, x, key=key)`"
            )
        start = {"params": key, **{n: jax.random.fold_in(key, i) for i, n in enumerate(rngs or ())}}
        variables = module.init(start, *inputs, method=method, **kwargs)
    elif inputs:
        raise ValueError("example inputs are for initialising; variables are given already")
    plain = _plain(variables)
    params, rest = split_floats(plain)

    def fn(params: Any, *inputs: Any) -> Any:
        merged = merge_leaves(rest, params)
        try:
            out = module.apply(merged, *inputs, method=method, mutable=mutable, rngs=rngs, **kwargs)
        except errors.InvalidRngError as error:
            raise ValueError(
                f"{type(module).__name__} draws random numbers in a call: pass its evaluation mode, as in "
                "from_linen(..., train=False), or keys, as in rngs={'dropout': key}"
            ) from error
        except errors.ModifyScopeVariableError as error:
            raise ValueError(
                f"{type(module).__name__} updates variables in a call: pass its evaluation mode, or "
                "mutable=['batch_stats']"
            ) from error
        return out if mutable is False else out[0]

    return fn, params


def to_linen(params: Any, like: Any) -> Any:
    """Variables of a linen module with the values of ``params``.

    Args:
        params: as `from_linen` gave them, with new values.
        like: the variables that the network was made from: gives integer variables, metadata boxes and
            frozen dicts. Bare "params" give bare "params".

    Raises:
        ValueError: ``params`` and ``like`` differ in leaves or shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> variables = nn.Dense(3).init(jax.random.key(0), jnp.ones((1, 2)))
        >>> fn, params = from_linen(nn.Dense(3), variables)
        >>> jax.tree.structure(to_linen(params, variables)) == jax.tree.structure(variables)
        True
    """
    from flax import linen as nn
    from flax.core import FrozenDict, freeze

    plain = nested(nn.meta.unbox(like))
    bare = _is_bare(plain)
    if bare:
        params = params["params"]
    _, rest = split_floats(plain)
    merged = merge_leaves(rest, params, like=plain)
    frozen = isinstance(like, FrozenDict)
    merged = freeze(merged) if frozen else merged
    return nn.meta.replace_boxed(like, merged)


def _plain(variables: Any) -> dict:
    from flax import linen as nn

    plain = nested(nn.meta.unbox(variables))
    return {"params": plain} if _is_bare(plain) else plain


def _is_bare(plain: Mapping[str, Any]) -> bool:
    """Whether these are the parameters themselves, without the name of their collection."""
    collections = {"params", "batch_stats", "cache", "constants", "intermediates"}
    return not collections & plain.keys()
