"""Message passing between the sites of pieces: which arrays meet, and the products in which they do.

The nodes are the sites of the pieces (a unit, or a unit in one layer of a stack), in *streams*: one for
each charge that occurs at a site, since features of different charges must not be added. A piece is a
hyperedge between its sites. A message to one of them is the mean, over the indices of the others, of
the piece's features times one factor for each other site: if these factors undo the charges there, the
message has the charge of the piece at the receiving site.

Pieces that look alike are stacked, and so are streams of one size, so that programs do not grow with
the number of layers. Layers share their weights over all pieces of one role, whatever the depth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.dtypes import wide
from ..blocks.features import STACK_UP_TO
from ..blocks.indices import structure
from .pieces import Charge, Site, pieces, sites

LETTERS = "abcdefghijklmnopqrstuvwxy"

Stream = tuple[tuple[str, ...], tuple]
"""Labels of a site and a charge."""


@dataclass(frozen=True)
class Group:
    """Pieces of one role and shape.

    Attributes:
        role: the labels, renamed, and at which sites the piece flips and scales.
        members: positions in the structure of the pieces.
        widths: sizes of the indices.
        sites: for each site its positions among the indices.
        charged: for each site whether it has a charge.
        receives: for each site whether what the piece computes arrives there.
        streams: for each site the stream of each member, of the charge at the site.
        answers: likewise of the opposite charge; None where there is no such stream.
        neutral: likewise of no charge.
    """

    role: str
    members: tuple[int, ...]
    widths: tuple[int, ...]
    sites: tuple[tuple[int, ...], ...]
    charged: tuple[bool, ...]
    receives: tuple[bool, ...]
    streams: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...] | None, ...]
    neutral: tuple[tuple[int, ...], ...]

    @property
    def flips(self) -> bool:
        return any(self.charged)


@dataclass(frozen=True)
class Plan:
    """Streams in stacks, and pieces in groups.

    Attributes:
        streams: all of them.
        stacks: streams of one size, charged or not, by position; ``(charged, sizes)`` of each.
        place: for each stream its stack, and its place there.
        opposite: for each stream the one of opposite charge at the same sites, if there is one.
        groups: the pieces.
    """

    streams: tuple[Stream, ...]
    stacks: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[bool, tuple[int, ...]], ...]
    place: tuple[tuple[int, int], ...]
    opposite: tuple[int | None, ...]
    groups: tuple[Group, ...]

    @property
    def flips(self) -> bool:
        """Whether any stream has a charge."""
        return any(charged for charged, _ in self.kinds)

    def zeros(self, channels: int, dtype) -> tuple[jax.Array, ...]:
        """Streams of zeros."""
        return tuple(
            jnp.zeros((len(members), *sizes, channels), dtype)
            for members, (_, sizes) in zip(self.stacks, self.kinds, strict=True)
        )

    def gather(self, nodes: Sequence[jax.Array], streams: Sequence[int]) -> jax.Array:
        """The features of some streams of one stack, ``(len(streams), *sizes, C)``."""
        stack = self.place[streams[0]][0]
        index = [self.place[s][1] for s in streams]
        if index == list(range(nodes[stack].shape[0])):
            return nodes[stack]
        return nodes[stack][jnp.asarray(index)]

    def add(self, nodes: list[jax.Array], streams: Sequence[int], x: jax.Array) -> None:
        """Add to the features of some streams of one stack."""
        stack = self.place[streams[0]][0]
        index = [self.place[s][1] for s in streams]
        if index == list(range(nodes[stack].shape[0])):
            nodes[stack] = nodes[stack] + x
        else:
            nodes[stack] = nodes[stack].at[jnp.asarray(index)].add(x)


@lru_cache(maxsize=64)
def plan(spec: Spec, scales: bool, widths: tuple[tuple[str, int], ...] | None = None) -> Plan:
    """The streams and groups of a spec.

    Args:
        spec: annotation of the weights.
        scales: whether scales count as charges; in canonical coordinates they need not.
        widths: sizes of all labels, if they are others than the spec's.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w": jnp.ones((2, 3)), "u": jnp.ones((3, 4)), "v": jnp.ones((4, 1))}
        >>> spec = symmetry.parse(params, {"w": "_ h", "u": "h k", "v": "k _"})
        >>> found = plan(spec, False)
        >>> found.streams
        ((('h',), ()), (('k',), ()))
        >>> [(g.role, g.members, g.sites) for g in found.groups]
        [('a b', (0,), ((0,), (1,))), ('a', (1,), ((0,),)), ('a', (2,), ((0,),))]
    """
    own = pieces(spec).spec
    blocks = structure(own)
    found = sites(spec)
    signs = {name for group in found for s in group for name in s.flips}

    size = dict(widths) if widths is not None else None

    def size_of(label: str) -> int:
        return own.size_of(label) if size is None else size[label]

    def charge(s: Site) -> Charge:
        return s.charge if scales else tuple((g, e) for g, e in s.charge if g in signs)

    names: dict[Stream, int] = {}
    for block, group in zip(blocks, found, strict=True):
        for s in group:
            labels = tuple(block.labels[k] for k in s.at)
            for c in ((), charge(s)):
                names.setdefault((labels, c), len(names))
    sizes = [tuple(size_of(label) for label in labels) for labels, _ in names]
    stacks: dict[tuple[bool, tuple[int, ...]], list[int]] = defaultdict(list)
    for n, (_, c) in enumerate(names):
        stacks[bool(c), sizes[n]].append(n)
    place = {s: (k, m) for k, members in enumerate(stacks.values()) for m, s in enumerate(members)}

    groups: dict[tuple, list[int]] = defaultdict(list)
    for b, (block, group) in enumerate(zip(blocks, found, strict=True)):
        shape = tuple(size_of(label) for label in block.labels)
        at = tuple(s.at for s in group)
        charged = tuple(bool(charge(s)) for s in group)
        role = _role(block.kind, group)
        answers = tuple(_answer(names, block.labels, s, charge(s), signs) for s in group)
        here = tuple(a is not None for a in answers)
        alone = b if prod(shape) > STACK_UP_TO else -1
        groups[role, shape, at, charged, _receivers(group), here, alone].append(b)
    out = []
    for (role, shape, at, charged, receives, here, _), members in groups.items():
        streams, answers, neutral = [], [], []
        for k in range(len(at)):
            labels = [tuple(blocks[b].labels[i] for i in at[k]) for b in members]
            streams.append(
                tuple(names[a, charge(found[b][k])] for a, b in zip(labels, members, strict=True))
            )
            back = [
                _answer(names, blocks[b].labels, found[b][k], charge(found[b][k]), signs)
                for b in members
            ]
            answers.append(tuple(x for x in back if x is not None) if here[k] else None)
            neutral.append(tuple(names[a, ()] for a in labels))
        out.append(
            Group(
                role,
                tuple(members),
                shape,
                at,
                charged,
                receives,
                tuple(streams),
                tuple(answers),
                tuple(neutral),
            )  # fmt: skip
        )
    return Plan(
        tuple(names),
        tuple(map(tuple, stacks.values())),
        tuple(stacks),
        tuple(place[n] for n in range(len(names))),
        tuple(names.get((labels, _negated(c, signs))) for labels, c in names),
        tuple(out),
    )


def _role(kind: str, group: Sequence[Site]) -> str:
    """The labels, and for each site whether scales go up (+) or down (-) there, and signs flip (s)."""
    if not any(s.charge for s in group):
        return kind or "1"
    shown = []
    for s in group:
        exponents = [e for g, e in s.charge if g not in s.flips]
        up, down = any(e > 0 for e in exponents), any(e < 0 for e in exponents)
        shown.append(("+" * up + "-" * down + "s" * bool(s.flips)) or "0")
    return f"{kind}: {' '.join(shown)}"


def _receivers(group: Sequence[Site]) -> tuple[bool, ...]:
    """Where the layer that a piece belongs to puts its results: sites that scale up with them.

    Without scales the last index is taken for the one of the outputs, as it is in kernels of JAX.
    """
    ups = [any(e > 0 and g not in s.flips for g, e in s.charge) for s in group]
    downs = [any(e < 0 for _, e in s.charge) for s in group]
    if any(ups):
        return tuple(ups)
    if any(downs):
        return tuple(not d for d in downs)
    return tuple(k == len(group) - 1 for k in range(len(group)))


def _answer(
    names: Mapping[Stream, int], labels: Sequence[str], site: Site, charge: Charge, signs: set[str]
) -> int | None:
    return names.get((tuple(labels[k] for k in site.at), _negated(charge, signs)))


def _negated(charge: Charge, signs: set[str]) -> Charge:
    return tuple((g, e if g in signs else -e) for g, e in charge)


def message(
    group: Group, x: jax.Array, factors: Mapping[int, jax.Array], to: int | None
) -> jax.Array:
    """The mean of features times factors over all indices but those of one site.

    Args:
        group: what the pieces are.
        x: ``(members, *indices, C)``.
        factors: for some sites ``(members, *site, C)``.
        to: the site that stays; None for none of them to go.
    """
    letters = LETTERS[: len(group.widths)]
    inputs = ["Z" + letters + "z"]
    for k in factors:
        inputs.append("Z" + "".join(letters[i] for i in group.sites[k]) + "z")
    out = letters if to is None else "".join(letters[i] for i in group.sites[to])
    gone = prod(n for n, a in zip(group.widths, letters, strict=True) if a not in out)
    y = jnp.einsum(f"{','.join(inputs)}->Z{out}z", x, *factors.values())
    return y / gone if gone > 1 else y


def outer(group: Group, factors: Mapping[int, jax.Array]) -> jax.Array | None:
    """The product of one factor for each of some sites, ``(members, *indices, C)`` or broadcast."""
    out = None
    for k, x in factors.items():
        y = at_site(group, k, x)
        out = y if out is None else out * y
    return out


def at_site(group: Group, site: int, x: jax.Array) -> jax.Array:
    """``(members, *site, C)`` laid along the indices of the pieces."""
    where = group.sites[site]
    order = sorted(range(len(where)), key=lambda i: where[i])
    shape = [1] * len(group.widths)
    for k in where:
        shape[k] = group.widths[k]
    y = x.transpose(0, *(1 + i for i in order), x.ndim - 1)
    return y.reshape(x.shape[0], *shape, x.shape[-1])


def rms(x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """Each member of a stack divided by its root mean square, over all indices and channels."""
    y = wide(x)
    square = jnp.mean(jnp.square(y), axis=tuple(range(1, x.ndim)), keepdims=True)
    return (y * jax.lax.rsqrt(square + epsilon)).astype(x.dtype)
