"""INR2ARRAY: the weights of a network as a small array of latents, and weights again of the latents.

Zhou et al., *Neural Functional Transformers*, 2023, section 3.2. Learned queries attend to the features of a
neural functional transformer: the array is the same for all orders of the units. A decoder makes
weights of it: one query for every weight, from where it stands, attends to the latents and passes
through a transformer of the same kind. Trained so that the decoded network computes what the encoded
one does (an autoencoder in function space), the array is an input for any network of sequences.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features, group
from ..blocks.indices import Structure, structure
from ..blocks.stacks import Cell, assemble
from ..parts.layers import draw_layers, run_layers
from ..parts.norm import BlockNorm, standardise
from ..parts.set_attention import Attention
from ..universal.initial import normals
from .end_trunk import RATES, EndReadout, sinusoids
from .ends import Ends, recut
from .nft import TransformerLayer, TransformerTrunk, nft_trunk


class Places(eqx.Module):
    """Features that tell where a weight stands: its block, and its coordinates as sinusoids.

    Not equivariant: it is what a decoder starts from. No weight depends on a width.

    Attributes:
        blocks: ``{kind: (blocks of the kind, C)}``.
        axes: ``{kind: (indices, 2 * RATES, C)}``.
    """

    blocks: dict[str, jax.Array]
    axes: dict[str, jax.Array]
    structure: Structure = eqx.field(static=True)

    def __init__(
        self, spec: Spec, channels: int, *, key: jax.Array, dtype: jnp.dtype | type = jnp.float32
    ):
        self.structure = structure(spec)
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for block in self.structure:
            counts[block.kind] = [counts[block.kind][0] + 1, len(block.labels)]
        shapes = [(n, channels) for n, _ in counts.values()]
        shapes += [(k, 2 * RATES, channels) for _, k in counts.values()]
        draws = normals(key, tuple(shapes), dtype)
        self.blocks = dict(zip(counts, draws, strict=False))
        codes = (w / RATES**0.5 for w in draws[len(counts) :])
        self.axes = {kind: w for kind, w in zip(counts, codes, strict=True) if w.size}

    def __call__(self, spec: Spec, dtype: jnp.dtype) -> Features:
        found = structure(spec)
        widths = {label: spec.size_of(label) for block in found for label in block.labels}
        groups = group(found, widths)
        counts: dict[str, int] = defaultdict(int)
        cells = []
        for block in found:
            cells.append(Cell(block.kind, counts[block.kind]))
            counts[block.kind] += 1
        arrays = []
        own = assemble({**self.blocks}, [[cells[b] for b in members] for members in groups])
        for members, x in zip(groups, own, strict=True):
            block = found[members[0]]
            sizes = [widths[label] for label in block.labels]
            x = x.astype(dtype).reshape(len(members), *(1,) * len(sizes), -1)
            for k, size in enumerate(sizes):
                code = sinusoids(size).astype(dtype) @ self.axes[block.kind][k].astype(dtype)
                x = x + code.reshape(*(size if j == k else 1 for j in range(len(sizes))), -1)
            arrays.append(jnp.broadcast_to(x, (len(members), *sizes, x.shape[-1])))
        return Features(tuple(arrays), found, groups)


class Inr2Array(eqx.Module):
    """An autoencoder of networks: weights to an array ``(latents, channels)`` and back.

    ``encode`` is invariant: an exchange of units leaves the array as it is. ``decode`` gives weights
    in one order of the units.

    Example:
        >>> import jax
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 1))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"})
        >>> net = Inr2Array(spec, latents=4, channels=8, layers=1, key=jax.random.key(0))
        >>> run = jax.jit(lambda params: (net.encode(params), net(params)))
        >>> latents, decoded = run(params)
        >>> latents.shape, jax.tree.map(jnp.shape, decoded)
        ((4, 8), {'b': (5,), 'v': (5, 1), 'w': (2, 5)})
        >>> moved = spec.act(spec.sample(jax.random.key(1)), params)
        >>> bool(jnp.allclose(run(moved)[0], latents, atol=1e-5))
        True

    A loss in function space, of a network ``fn(params, x)`` on coordinates ``x``::

        def loss(net, params):
            return jnp.mean((fn(net(params), x) - fn(params, x)) ** 2)
    """

    trunk: TransformerTrunk
    latents: jax.Array
    gather: Attention
    mlp: tuple[jax.Array, jax.Array]
    places: Places
    spread: Attention
    layers: TransformerLayer
    last: BlockNorm
    readout: EndReadout
    spec: Spec = eqx.field(static=True)
    ends: Ends = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        *,
        latents: int,
        channels: int,
        key: jax.Array,
        layers: int = 3,
        heads: int | None = None,
        ends: Ends = "free",
        scales: dict[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw an autoencoder.

        Args:
            spec: annotation of the networks.
            latents: rows of the array.
            channels: of the array, and of all features.
            key: of the initial weights.
            layers: of the encoder, and of the decoder.
            heads: of attention; by default 8, or as many as divide the channels.
            ends: see :mod:`.ends`.
            scales: typical size of the weights of each block, for what comes in and what goes out;
                see :func:`.block_scales`.
            dtype: of the weights.
        """
        if latents < 1:
            raise ValueError(f"`latents` must be positive; got {latents}")
        keys = jax.random.split(key, 7)
        self.spec, self.ends = spec, ends
        self.trunk = nft_trunk(
            spec,
            channels,
            layers,
            heads=heads,
            ends=ends,
            scales=scales,
            key=keys[0],
            dtype=dtype,
        )
        own, wide = recut(spec, ends), 4 * channels
        count = next(h for h in (8, 4, 2, 1) if channels % h == 0) if heads is None else heads
        shapes = (latents, channels), (channels, wide), (wide, channels)
        self.latents, up, down = normals(keys[1], shapes, dtype)
        self.mlp = up / channels**0.5, down / wide**0.5
        self.gather = _attention(channels, count, keys[2], dtype)
        self.places = Places(own, channels, key=keys[3], dtype=dtype)
        self.spread = _attention(channels, count, keys[4], dtype)

        def draw(key: jax.Array) -> TransformerLayer:
            return TransformerLayer(own, channels, heads=count, key=key, dtype=dtype)

        self.layers = draw_layers(draw, layers, keys[5])
        self.last = BlockNorm(own, channels, dtype=dtype)
        self.readout = self.trunk.make_readout(
            spec, channels, key=keys[6], scales=scales, dtype=dtype
        )

    def encode(self, params: Any, spec: Spec | None = None) -> jax.Array:
        """The weights of one network to ``(latents, channels)``, invariant."""
        x = self.trunk((self.spec if spec is None else spec).blocks(params), spec)
        rows = jnp.concatenate([a.reshape(-1, a.shape[-1]) for a in x.arrays])
        z = self.latents.astype(rows.dtype)
        z = standardise(z + self.gather(z, rows), centre=False)
        up, down = (w.astype(rows.dtype) for w in self.mlp)
        return standardise(z + jax.nn.gelu(z @ up) @ down, centre=False)

    def decode(self, latents: jax.Array, spec: Spec | None = None, like: Any = None) -> Any:
        """``(latents, channels)`` to the weights of one network.

        Args:
            latents: as :meth:`encode` gives them.
            spec: annotation of the network, where it is another one (other widths).
            like: a tree of the structure to give back, where the spec does not know it.
        """
        if latents.shape != self.latents.shape:
            hint = "; use jax.vmap for a batch" if latents.ndim == 3 else ""
            raise ValueError(
                f"latents have shape {latents.shape}; expected {self.latents.shape}{hint}"
            )
        target = self.spec if spec is None else spec
        x = self.places(recut(target, self.ends), latents.dtype)
        x = jax.tree.map(
            lambda a: a + self.spread(a.reshape(-1, a.shape[-1]), latents).reshape(a.shape),
            x,
        )
        x = self.last(run_layers(self.layers, x))
        return target.unblocks(self.readout(x, spec), like=like)

    def __call__(self, params: Any, spec: Spec | None = None) -> Any:
        """Weights to an array and back to weights: a tree of the same structure and shapes."""
        return self.decode(self.encode(params, spec), spec, like=params)


def _attention(channels: int, heads: int, key: jax.Array, dtype: jnp.dtype | type) -> Attention:
    shapes = (channels, channels), (channels, 2 * channels), (channels, channels)
    query, key_value, out = normals(key, shapes, dtype)
    weights = jnp.stack([query, *jnp.split(key_value, 2, axis=-1), out])
    return Attention(weights / channels**0.5, heads)
