"""What a denoiser is told beside the weights, as one vector: how noisy they are, and the condition.

The level is whatever number the process feeds: a time between 0 and 1, a quarter of the logarithm of
the noise (Karras et al., *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022), or
the number of a step. Sines and cosines of many frequencies make it legible to a dense network (Ho, Jain,
Abbeel, *Denoising Diffusion Probabilistic Models*, 2020; Tancik et al., *Fourier Features*, 2020).
"""

from __future__ import annotations

from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...representation.blocks.dtypes import wide
from ...representation.universal.initial import normals

KINDS = ("sinusoidal", "fourier")


class LevelEmbedding(eqx.Module):
    """A number to a vector: itself, and sines and cosines of its multiples.

    Attributes:
        frequencies: in radians a unit of the level, ``(rates,)``; they are not trained.

    Example:
        >>> embed = LevelEmbedding(9)
        >>> embed(jnp.float32(0.5)).shape
        (9,)
    """

    frequencies: tuple[float, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self,
        size: int = 33,
        *,
        kind: str = "sinusoidal",
        lowest: float = 1.0,
        highest: float = 200.0,
    ):
        """Choose the frequencies.

        Args:
            size: how many numbers come out, odd: one for the level, two for each frequency.
            kind: ``"sinusoidal"``: evenly spaced logarithms from ``lowest`` to ``highest``;
                ``"fourier"``: the quantiles of a normal distribution of deviation ``highest``.
            lowest, highest: in radians a unit of the level. The defaults suit levels between 0 and 1;
                for numbers of steps divide both by how many there are.

        Raises:
            ValueError: an even size, another kind, or frequencies that are not positive.
        """
        if size < 1 or size % 2 == 0:
            raise ValueError(f"`size` must be odd: the level and pairs of waves; got {size}")
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}; got {kind!r}")
        if not 0 < lowest <= highest:
            raise ValueError(f"frequencies must be positive and ordered; got {lowest}, {highest}")
        rates = size // 2
        if kind == "fourier":
            normal = NormalDist(sigma=highest)
            found = [normal.inv_cdf((1 + (n + 0.5) / rates) / 2) for n in range(rates)]
        else:
            found = np.geomspace(lowest, highest, rates).tolist()
        self.frequencies = tuple(found)
        self.size = size

    def __call__(self, level: jax.Array) -> jax.Array:
        """A scalar to ``(size,)``, in float32 at least."""
        level = wide(as_floating(level))
        if level.shape != ():
            raise ValueError(
                f"`level` has shape {level.shape}; expected a number: for a batch use jax.vmap"
            )
        angle = level * jnp.asarray(self.frequencies, level.dtype)
        return jnp.concatenate([level[None], jnp.sin(angle), jnp.cos(angle)])


def as_floating(x: jax.typing.ArrayLike) -> jax.Array:
    """An array of floating numbers; of integers and Booleans their values in float32."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


class Linear(eqx.Module):
    """``x W + b`` along the last axis, in the dtype of ``x``.

    Example:
        >>> Linear(3, 5, key=jax.random.key(0))(jnp.ones((2, 3))).shape
        (2, 5)
    """

    weight: jax.Array
    bias: jax.Array

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        key: jax.Array | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw a map; without a key it is zero."""
        self.bias = jnp.zeros(c_out, dtype)
        if key is None:
            self.weight = jnp.zeros((c_in, c_out), dtype)
        else:
            (w,) = normals(key, ((c_in, c_out),), dtype)
            self.weight = w / jnp.asarray(max(c_in, 1) ** 0.5, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight.astype(x.dtype) + self.bias.astype(x.dtype)


class Signal(eqx.Module):
    """Level and condition to one vector, by a dense network of one hidden layer.

    Attributes:
        embed: of the level.
        first, second: the dense network.
        told: of the condition; None where nothing is told.

    Example:
        >>> signal = Signal(16, 3, key=jax.random.key(0))
        >>> signal(jnp.float32(0.5), jnp.ones(3)).shape
        (16,)
    """

    embed: LevelEmbedding
    first: Linear
    second: Linear
    told: Linear | None

    def __init__(
        self,
        size: int,
        told: int | None = None,
        *,
        key: jax.Array,
        embed: LevelEmbedding | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw one.

        Args:
            size: of the vector.
            told: how many numbers the condition has; None where there is none.
            key: of the initial weights.
            embed: of the level; by default :class:`LevelEmbedding` as it stands.
            dtype: of the weights.
        """
        keys = jax.random.split(key, 3)
        self.embed = LevelEmbedding() if embed is None else embed
        self.first = Linear(self.embed.size, size, key=keys[0], dtype=dtype)
        self.second = Linear(size, size, key=keys[1], dtype=dtype)
        self.told = None if told is None else Linear(told, size, key=keys[2], dtype=dtype)

    def __call__(self, level: jax.Array, told: jax.Array | None = None) -> jax.Array:
        """A scalar and ``(told,)`` to ``(size,)``, in the widest dtype among them.

        Raises:
            ValueError: a condition that was not announced, is missing, or has another size.
        """
        expected = None if self.told is None else self.told.weight.shape[:1]
        found = None if told is None else jnp.shape(told)
        if found != expected:
            hint = (
                "draw the denoiser with `told=` the size of the condition, and give it at each call"
            )
            raise ValueError(f"`told` has shape {found}; expected {expected}: {hint}")
        waves = self.embed(level)
        if self.told is None or told is None:
            return jax.nn.silu(self.second(jax.nn.silu(self.first(waves))))
        vector = wide(as_floating(told))
        dtype = jnp.result_type(waves, vector)
        heard = self.second(jax.nn.silu(self.first(waves.astype(dtype))))
        return jax.nn.silu(heard + self.told(vector.astype(dtype)))
