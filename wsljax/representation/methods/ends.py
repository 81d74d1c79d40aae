"""The ends of a network, its input and output coordinates, and three ways to treat them.

A fixed axis of a spec is an end of the network (see :mod:`..graph.ends`), or it stands beside the units of
every layer alike, as the positions of a convolution kernel do. The second sort is always folded into
channels. The ends are

- ``"free"``: units like all others (neuron permutation everywhere, NP), told apart by position codes;
- ``"fixed"``: coordinates that stand for themselves, each with features of its own (HNP, DWS);
- ``"folded"``: folded into channels with the rest, which costs least.

Zhou et al., *Permutation Equivariant Neural Functionals*, 2023, sections 3.1 and 3.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

from ...symmetry.annotation import Leaf, Units
from ...symmetry.axes import Axis, Fixed, Sum, Unit
from ...symmetry.spec import Spec
from ..graph.ends import faces

Ends = Literal["free", "fixed", "folded"]


@lru_cache(maxsize=64)
def recut(spec: Spec, ends: Ends) -> Spec:
    """A spec of the blocks of ``spec``, with its ends as wanted.

    The tree that it describes is the dictionary ``spec.blocks(params)``; its own blocks are what a
    network with such ends reads.

    Raises:
        ValueError: for unknown ``ends``.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w0": jnp.zeros((2, 4)), "b0": jnp.zeros(4), "w1": jnp.zeros((4, 3))}
        >>> spec = symmetry.parse(params, {"w0": "_ h", "b0": "h", "w1": "h _"})
        >>> recut(spec, "free").axes
        {'b0': 'h', 'w0': 'inputs2 h', 'w1': 'h outputs3'}
        >>> recut(spec, "fixed").axes
        {'b0': 'h', 'w0': '_1+_1 h', 'w1': 'h _1+_1+_1'}
    """
    if ends not in get_args(Ends):
        raise ValueError(f"`ends` must be one of {get_args(Ends)}; got {ends!r}")
    found = {} if ends == "folded" else faces(spec)
    taken = {u.name for u in spec.units}
    sizes: dict[str, int] = {}
    leaves = []
    for block in sorted(spec.layout, key=lambda b: b.name):
        trees: list[Axis] = []
        for k, (label, size) in enumerate(zip(block.axes, block.shape, strict=True)):
            face = found.get(block.name, {}).get(k)
            if face and ends == "free":
                name = face.label.lstrip("_")
                while name in taken:
                    name += "_"
                trees.append(Unit(name, size))
                sizes[name] = size
            elif face:
                trees.append(Sum((Fixed(1),) * size) if size > 1 else Fixed(size))
            elif label.startswith("_"):
                trees.append(Fixed(size, None if label == "_" else label))
            else:
                seats = tuple(
                    [i for i, other in enumerate(block.axes) if other == block.axes[p]].index(p)
                    for p in block.parents[k]
                )
                trees.append(Unit(label, size, None, seats))
        leaves.append(Leaf(block.name, block.shape, tuple(trees)))
    units = [Units(u.name, u.size, u.over) for u in spec.units]
    return Spec(tuple(leaves), (*units, *(Units(name, size) for name, size in sizes.items())))


@lru_cache(maxsize=64)
def at_outputs(spec: Spec) -> frozenset[str]:
    """The blocks with an output axis: the last kernels and their biases.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"w0": jnp.zeros((2, 4)), "b0": jnp.zeros(4), "w1": jnp.zeros((4, 3)), "b1": jnp.zeros(3)}
        >>> spec = symmetry.parse(params, {"w0": "_ h", "b0": "h", "w1": "h _", "b1": "_"})
        >>> sorted(at_outputs(spec))
        ['b1', 'w1']
    """
    return frozenset(
        name for name, ends in faces(spec).items() if any(not face.input for face in ends.values())
    )
