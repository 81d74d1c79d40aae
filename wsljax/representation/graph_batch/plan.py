"""What a laid-out graph is: its topology, where each block lies in it, and what counts as large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...symmetry.spec import Spec
from .topology import Topology


class Sizes(NamedTuple):
    """When a fixed axis is too large for an edge or a node a coordinate.

    Attributes:
        chunk: how many values an edge carries where blocks are laid out in chunks.
        positions: a block with more fixed positions at a pair of nodes than this is laid out in chunks.
        ends: a fixed axis of more coordinates than this is not made of nodes; it counts as positions.
    """

    chunk: int = 16
    positions: int = 128
    ends: int = 4096


DEFAULT_SIZES = Sizes()


class Piece(NamedTuple):
    """Where the weights of one block lie among the values.

    Attributes:
        name, shape: of the block.
        order: its axes, those of nodes before those of positions.
        places: how many index tuples of nodes it has.
        positions: how many fixed positions at each.
        chunked: whether it lies in ``chunks`` rather than in ``values``.
        start, stop: its rows there.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    places: int
    positions: int
    chunked: bool
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The parameter graph of a spec, but for the values.

    Attributes:
        spec: the annotation.
        sizes: how large fixed axes were treated.
        topology: nodes and edges, in numpy.
        pieces: where each block lies, in the order of the spec's layout.
        scalars: how many edges carry at most one value; the edges of chunks come after them.
    """

    spec: Spec
    sizes: Sizes
    topology: Topology
    pieces: tuple[Piece, ...]
    scalars: int

    @property
    def nodes(self) -> int:
        return len(self.topology.node_type)

    @property
    def edges(self) -> int:
        return len(self.topology.senders)
