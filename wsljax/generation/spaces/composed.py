"""One space after another: normalised weights, then tokens; aligned weights, then principal components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...zoo.population import Population
from .space import Space


class ComposedSpace(Space):
    """Spaces one after the other; the first reads networks, each other what the one before gives.

    Example: see :func:`fit_spaces`.
    """

    spaces: tuple[Space, ...]

    def __init__(self, spaces: Sequence[Space]):
        """See the class."""
        self.spaces = tuple(spaces)

    @property
    def like(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the last space gives."""
        return self.spaces[-1].like

    @property
    def mask(self) -> Any:
        """Padding of the last space."""
        return self.spaces[-1].mask

    def encode(self, params: Any) -> Any:
        for space in self.spaces:
            params = space.encode(params)
        return params

    @property
    def spec(self) -> Any:
        """The symmetry of what the last space gives, or None."""
        return getattr(self.spaces[-1], "spec", None)

    def decode(self, x: Any) -> Any:
        for space in reversed(self.spaces):
            x = space.decode(x)
        return x

    def encode_all(self, params: Any) -> Any:
        for space in self.spaces:
            params = space.encode_all(params)
        return params


def fit_spaces(networks: Any, *fits: Callable[[Any], Space]) -> ComposedSpace:
    """Fit spaces one after the other, each on what the one before makes of the training networks.

    Args:
        networks: a ``Population`` or a tree of arrays ``(models, ...)``: training networks alone.
        *fits: functions from networks to a space, as ``WeightSpace.fit``; with options by
            ``functools.partial``.

    Raises:
        ValueError: no space is named.

    Example:
        >>> import functools, jax.numpy as jnp
        >>> from wsljax.generation.spaces import PrincipalSpace, WeightSpace
        >>> stack = {"w": jnp.array([[0.0, 1.0], [1.0, 0.0], [4.0, 4.0]])}
        >>> space = fit_spaces(stack, WeightSpace.fit, functools.partial(PrincipalSpace.fit, components=2))
        >>> back = space.decode(space.encode({"w": jnp.array([3.0, 5.0])}))
        >>> bool(jnp.allclose(back["w"], jnp.array([3.0, 5.0]), atol=1e-5))
        True
    """
    if not fits:
        raise ValueError("`fit_spaces` needs a space at least, as `WeightSpace.fit`")
    spaces: list[Space] = []
    for fit in fits:
        space = fit(networks)
        spaces.append(space)
        if len(spaces) < len(fits):
            params = networks.params if isinstance(networks, Population) else networks
            networks = Population(space.encode_all(params), {}, getattr(space, "spec", None))
    return ComposedSpace(spaces)
