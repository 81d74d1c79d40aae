"""Networks as sequences of tokens."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry import Spec
from ...zoo.preprocessing.tokens import Tokeniser, channel_tokens, flat_tokens, neuron_tokens
from .leaves import Dtypes, dtypes_of, join, shapes, split, unpack, widened, with_dtypes
from .restrict import restrict
from .space import Space

KINDS = ("channel", "neuron", "flat")


class TokenSpace(Space):
    """A sequence of tokens, ``(count, width)``; what is padding, ``mask`` says.

    Attributes:
        tokeniser: which weight stands where; its ``positions`` are for position embeddings.

    Example:
        >>> space = TokenSpace.fit({"w": jnp.ones((5, 3, 2)), "b": jnp.zeros((5, 2))})
        >>> space.encode({"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.array([6.0, 7.0])}).tolist()
        [[0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]]
    """

    like: Any
    others: Any
    tokeniser: Tokeniser = eqx.field(static=True)
    dtypes: Dtypes = eqx.field(static=True)

    @staticmethod
    def fit(
        networks: Any, *, kind: str = "channel", width: int | None = None, spec: Spec | None = None
    ) -> TokenSpace:
        """For networks like these.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``.
            kind: what a token is: ``"channel"`` (an output channel, with its bias), ``"neuron"`` (all that
                goes into a unit and comes out of it; weights between two units stand in both tokens), or
                ``"flat"`` (pieces of the flat vector).
            width: of a token: longer ones are cut, shorter ones padded. ``"flat"`` needs it; by default the
                longest token.
            spec: the symmetry of one network; by default that of the population. ``"neuron"`` needs it.

        Raises:
            ValueError: an unknown kind, or what it needs is missing.
        """
        _, one, spec = unpack(networks, spec)
        floating, others = split(one)
        if spec is not None and len(jax.tree.leaves(floating)) < len(spec.leaves):
            spec = restrict(spec, one, [path for path, _ in dtypes_of(floating)])
        wider = shapes(widened(floating))
        if kind == "channel":
            tokeniser = channel_tokens(wider, spec, width=width)
        elif kind == "neuron":
            tokeniser = neuron_tokens(wider, spec, width=width)
        elif kind == "flat":
            if width is None:
                raise ValueError('tokens of kind "flat" need a `width`, as `width=64`')
            tokeniser = flat_tokens(wider, width=width)
        else:
            raise ValueError(f"`kind` is {kind!r}; tokens are of the kinds {KINDS}")
        like = jax.eval_shape(tokeniser, wider)
        return TokenSpace(like, others, tokeniser, dtypes_of(floating))

    @property
    def mask(self) -> jax.Array:
        """``(count, width)``: 1 where a token holds a weight, 0 where it is padded."""
        return jnp.asarray(self.tokeniser.mask, self.like.dtype)

    def encode(self, params: Any) -> jax.Array:
        """The tokens of one network."""
        return self.tokeniser(widened(split(params)[0]))

    def decode(self, x: jax.Array) -> Any:
        """One network, the exact inverse of :meth:`encode`; of weights in several tokens the mean."""
        floating = self.tokeniser.params(x, overlap="mean")
        return join(with_dtypes(floating, self.dtypes), self.others)
