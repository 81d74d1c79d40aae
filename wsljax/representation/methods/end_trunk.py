"""Layered trunks whose ends are free, fixed or folded (see :mod:`.ends`), with codes of end positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.incoming import check_scales
from ..parts.embed import Embed
from ..parts.readout import Readout
from ..universal.initial import normals
from .ends import Ends, recut
from .trunk import LayeredTrunk

Encoding = Literal["learned", "sinusoidal"]

RATES = 8
"""Frequencies of sinusoidal codes."""


def sinusoids(size: int) -> jax.Array:
    """Sines and cosines of the place, shape ``(size, 2 * RATES)``; Vaswani et al., 2017, section 3.5.

    Example:
        >>> sinusoids(3).shape
        (3, 16)
    """
    angle = jnp.arange(size)[:, None] * 1e3 ** (-jnp.arange(RATES) / RATES)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class CodedEmbed(eqx.Module):
    """An embedding that tells the coordinates of the free ends apart.

    Attributes:
        embed: what the codes are added to.
        codes: for each free end its codes ``(coordinates, channels)``, or, if they are sinusoidal,
            the matrix ``(2 * RATES, channels)`` from sinusoids to codes.
        encoding: which of both.
    """

    embed: Embed
    codes: dict[str, jax.Array]
    encoding: Encoding | None = eqx.field(static=True)

    def __init__(
        self,
        embed: Embed,
        spec: Spec,
        free: Mapping[str, int],
        encoding: Encoding | None,
        channels: int,
        *,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if encoding not in ("learned", "sinusoidal", None):
            raise ValueError(
                f"`io_encoding` must be 'learned', 'sinusoidal' or None; got {encoding!r}"
            )
        self.embed, self.encoding, self.codes = embed, encoding, {}
        if encoding and free:
            rows = {n: size if encoding == "learned" else 2 * RATES for n, size in free.items()}
            draws = normals(key, tuple((n, channels) for n in rows.values()), dtype)
            size = 1.0 if encoding == "learned" else RATES**-0.5
            self.codes = {name: w * size for name, w in zip(rows, draws, strict=True)}

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        x = self.embed(blocks, spec)
        if not self.codes:
            return x
        arrays = []
        for array, members in zip(x.arrays, x.groups, strict=True):
            for k in range(array.ndim - 2):
                labels = [x.structure[b].labels[k] for b in members]
                if any(label in self.codes for label in labels):
                    size = array.shape[1 + k]
                    added = jnp.stack([self._code(label, size, array) for label in labels])
                    shape = (len(members), *(1,) * k, size, *(1,) * (array.ndim - 3 - k), -1)
                    array = array + added.reshape(shape)
            arrays.append(array)
        return Features(tuple(arrays), x.structure, x.groups)

    def _code(self, label: str, size: int, like: jax.Array) -> jax.Array:
        if label not in self.codes:
            return jnp.zeros((size, like.shape[-1]), like.dtype)
        code = self.codes[label].astype(like.dtype)
        if self.encoding == "sinusoidal":
            return sinusoids(size).astype(like.dtype) @ code
        if code.shape[0] != size:
            raise ValueError(
                f"{label!r} has {size} coordinates, the codes were drawn for {code.shape[0]}; use "
                "io_encoding='sinusoidal' where the ends have several widths"
            )
        return code


class EndTrunk(LayeredTrunk):
    """A :class:`.LayeredTrunk` that reads networks with their ends cut as ``ends`` says."""

    spec: Spec = eqx.field(static=True)
    ends: Ends = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        draw: Callable[[Spec, jax.Array], eqx.Module],
        *,
        ends: Ends,
        key: jax.Array,
        io_encoding: Encoding | None = None,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw a trunk.

        Args:
            spec, channels, layers, key, scales, dtype, options: see :class:`.LayeredTrunk`.
            draw: makes one layer of a spec and a key: a module from features to features.
            ends: see :mod:`.ends`.
            io_encoding: codes by which the coordinates of free ends are told apart.
        """
        if options.keys() & {"fixed", "up_to"}:
            raise ValueError("this method has no `fixed`; `ends` says what becomes of fixed axes")
        own = recut(spec, ends)
        key, key_codes = jax.random.split(key)
        super().__init__(
            own,
            channels,
            layers,
            partial(draw, own),
            key=key,
            scales=_recut_scales(own, scales),
            dtype=dtype,
            **options,
        )
        self.spec, self.ends = spec, ends
        known = {u.name for u in spec.units}
        free = {u.name: u.size for u in own.units if u.name not in known}
        embed = CodedEmbed(self.embed, own, free, io_encoding, channels, key=key_codes, dtype=dtype)
        self.embed = embed  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, blocks: Mapping[str, jax.Array], spec: Spec | None = None) -> Features:
        own = recut(self.spec if spec is None else spec, self.ends)
        extra = max((jnp.ndim(x) - len(leaf.shape)) for x, leaf in _paired(own, blocks))
        cut = jax.vmap(own.blocks, -1, -1) if extra else own.blocks
        return super().__call__(cut(dict(blocks)), None if spec is None else own)

    def make_pool(self, spec: Spec, channels: int, *, key: jax.Array, **options: Any) -> Any:
        return super().make_pool(recut(spec, self.ends), channels, key=key, **options)

    def make_readout(
        self,
        spec: Spec,
        channels: int,
        *,
        key: jax.Array,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> Any:
        own = recut(spec, self.ends)
        inner = Readout(own, channels, key=key, scales=_recut_scales(own, scales), dtype=dtype)
        return EndReadout(inner, spec, self.ends)


class EndReadout(eqx.Module):
    """A readout of cut blocks, which are put together again."""

    inner: Readout
    spec: Spec = eqx.field(static=True)
    ends: Ends = eqx.field(static=True)

    def __call__(self, features: Features, spec: Spec | None = None) -> dict[str, jax.Array]:
        own = recut(self.spec if spec is None else spec, self.ends)
        blocks = self.inner(features, None if spec is None else own)
        return own.unblocks(blocks, like={leaf.path: 0 for leaf in own.leaves})


def _paired(own: Spec, blocks: Mapping[str, jax.Array]) -> list:
    missing = [leaf.path for leaf in own.leaves if leaf.path not in blocks]
    if missing:
        raise ValueError(f"blocks {missing[:5]} are missing; give `spec.blocks(params)`")
    return [(blocks[leaf.path], leaf) for leaf in own.leaves]


def _recut_scales(own: Spec, scales: Mapping[str, float] | None) -> dict[str, float] | None:
    if scales is None:
        return None
    check_scales(scales, (block.path for block in own.layout))
    return {block.name: scales[block.path] for block in own.layout if block.path in scales}
