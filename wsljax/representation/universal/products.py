"""From features to the operands of one matrix product for each index type, and back into features.

Every block is read once into its reductions, the reductions of one index type are laid side by side as
channels, and what comes of them is written back. What happens in between is the layer's own business:
:mod:`.linear` has one matrix for each type, :mod:`.coupling` has less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..blocks.features import STACK_UP_TO, Features, group
from ..blocks.indices import Indices
from ..blocks.stacks import Cell, assemble, split
from ..blocks.ties import Tie
from ..blocks.transfer import read, write
from .basis import Basis, IndexType, Role


class Product(NamedTuple):
    """Index types of one role and one shape: one matrix product, batched over them."""

    role: Role
    members: tuple[int, ...]
    types: tuple[IndexType, ...]

    @property
    def by_member(self) -> bool:
        """Whether operands are put together member after member, or read after read over all members.

        Neighbours move together: many blocks of one units set, or many units sets of alike blocks.
        """
        return len(self.members) == 1 or self.role.reads > len(self.members)


def products_of(
    found: Basis,
    widths: Mapping[str, int],
    apart: Callable[[IndexType], Hashable] = lambda kind: None,
) -> list[Product]:
    """What is computed at these widths: index types of a role, in stacks where they are small.

    Args:
        found: the factored basis.
        widths: the size of every label.
        apart: types for which it differs are not put into one stack.
    """
    out = []
    for role in found.roles:
        shapes: dict[tuple, list[int]] = defaultdict(list)
        for n, t in enumerate(role.members):
            shape = tuple(widths[label] for label in found.types[t].labels)
            alone = n if prod(shape) > STACK_UP_TO else -1
            shapes[shape, alone, apart(found.types[t])].append(n)
        for members in shapes.values():
            types = tuple(found.types[role.members[n]] for n in members)
            out.append(Product(role, tuple(members), types))
    return out


def operands_of(found: Basis, products: Sequence[Product], x: Features) -> list[jax.Array]:
    """For every product its reads side by side: ``(members, *index type, reads * c_in)``."""
    place = {b: (g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
    terms: list[dict[tuple, None]] = [{} for _ in x.groups]  # in order, each once
    cells: list[list[Cell]] = []
    for product in products:
        grid = []
        for kind in product.types:
            row = []
            for r in kind.reads:
                g, n = place[r.block]
                term = (r.tie, tuple(sorted(r.kept)))
                terms[g][term] = None
                row.append(Cell((g, term), n, tuple(term[1].index(i) for i in r.kept)))
            grid.append(row)
        cells += [sum(grid, [])] if product.by_member else map(list, zip(*grid, strict=True))
    stacks = {}
    for g, (array, wanted) in enumerate(zip(x.arrays, terms, strict=True)):
        if wanted:
            got = jax.vmap(lambda a, wanted=tuple(wanted): read(a, wanted))(array)
            stacks.update({(g, term): a for term, a in zip(wanted, got, strict=True)})
    pieces = iter(assemble(stacks, cells))
    out = []
    for product in products:
        if product.by_member:  # one piece, stacked over the members and their reads
            piece = next(pieces)
            piece = piece.reshape(len(product.members), -1, *piece.shape[1:])
            piece = jnp.moveaxis(piece, 1, -2)
            out.append(piece.reshape(*piece.shape[:-2], -1))
        else:  # one piece a read, each stacked over the members
            out.append(_side_by_side([next(pieces) for _ in range(product.role.reads)]))
    return out


def written(
    found: Basis,
    products: Sequence[Product],
    results: Sequence[jax.Array],
    widths: Mapping[str, int],
    *,
    distinct: bool = False,
) -> Features:
    """The results ``(members, *index type, writes * c_out)`` put into the blocks of the output.

    Args:
        found, products: what has been computed.
        results: one for each product.
        widths: the size of every label.
        distinct: write only where indices that are not tied differ.
    """
    stacks: dict = {}
    cells: list[dict[tuple, Cell]] = [{} for _ in found.outputs]
    for k, (product, y) in enumerate(zip(products, results, strict=True)):
        lanes = product.role.writes
        if product.by_member:  # stacked over the members and their writes
            stack = jnp.moveaxis(y.reshape(*y.shape[:-1], lanes, -1), -2, 1)
            stacks[k] = stack.reshape(-1, *stack.shape[2:])
        else:  # for each write stacked over the members
            step = y.shape[-1] // lanes
            for q, lane in enumerate(split(y, range(step, y.shape[-1], step), -1)):
                stacks[k, q] = lane
        for m, kind in enumerate(product.types):
            for q, w in enumerate(kind.writes):
                kept = tuple(sorted(w.kept))
                again = sum(1 for tie, i, _ in cells[w.block] if (tie, i) == (w.tie, kept))
                cells[w.block][w.tie, kept, again] = Cell(
                    k if product.by_member else (k, q),
                    m * lanes + q if product.by_member else m,
                    tuple(w.kept.index(i) for i in kept),
                )
    groups = group(found.outputs, widths, [tuple(sorted(c)) for c in cells])
    terms = [(g, term) for g, members in enumerate(groups) for term in sorted(cells[members[0]])]
    pieces = assemble(stacks, [[cells[b][term] for b in groups[g]] for g, term in terms])
    parts: list[list[tuple]] = [[] for _ in groups]
    for (g, (tie, kept, _)), piece in zip(terms, pieces, strict=True):
        parts[g].append((tie, kept, piece))
    arrays = []
    for members, found_parts in zip(groups, parts, strict=True):
        shape = [widths[label] for label in found.outputs[members[0]].labels]
        where = [(tie, kept) for tie, kept, _ in found_parts]
        block = found.outputs[members[0]]

        def put(*ys: jax.Array, where=where, shape=shape, block=block) -> jax.Array:
            terms = [(*term, y) for term, y in zip(where, ys, strict=True)]
            return write(_apart(terms, block, shape) if distinct else terms, shape)

        arrays.append(jax.vmap(put)(*(piece for *_, piece in found_parts)))
    return Features(tuple(arrays), found.outputs, groups)


Part = tuple[Tie, tuple[int, ...], jax.Array]


def _apart(terms: list[Part], block: Indices, widths: Sequence[int]) -> list[Part]:
    """Parts of one block, zero where ties that are not one have the same coordinate."""
    out, by_tie = [], defaultdict(list)
    for tie, kept, y in terms:
        by_tie[tie].append((kept, y))
    for tie, parts in by_tie.items():
        firsts = sorted(set(tie))
        pairs = [
            (firsts.index(i), firsts.index(j))
            for i, j in combinations(firsts, 2)
            if block.labels[i] == block.labels[j]
            and [tie[p] for p in block.parents[i]] == [tie[p] for p in block.parents[j]]
        ]
        if not pairs:
            out += [(tie, kept, y) for kept, y in parts]
            continue
        sizes = [widths[i] for i in firsts]
        own = tuple(range(len(firsts)))
        y = write([(own, tuple(firsts.index(i) for i in kept), y) for kept, y in parts], sizes)
        for i, j in pairs:
            axes = [n if k in (i, j) else 1 for k, n in enumerate(sizes)]
            y = jnp.where(jnp.eye(sizes[i], dtype=bool).reshape(*axes, 1), 0, y)
        out.append((tie, tuple(firsts), y))
    return out


def _side_by_side(arrays: list[jax.Array]) -> jax.Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=-1)
