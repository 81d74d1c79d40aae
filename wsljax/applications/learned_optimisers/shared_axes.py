"""A spec whose fixed axes are read as units, so that all coordinates of an axis share their weights."""

from __future__ import annotations

from functools import lru_cache

from ...representation.methods.ends import recut
from ...symmetry.annotation import Leaf, Units
from ...symmetry.axes import Axis, Fixed, Unit
from ...symmetry.spec import Spec


@lru_cache(maxsize=64)
def fixed_as_units(spec: Spec) -> Spec:
    """Every fixed axis as units: those of inputs and outputs where they belong together, others alone.

    The group becomes larger, so what is equivariant for the result is so for ``spec``. What is lost is
    which input is which; what is won is that no weight depends on how many there are, and that no
    coordinate has to share channels with others. Named fixed axes, which units are nested over, stay.

    Returns:
        A spec of the blocks of ``spec``: the tree that it describes is ``spec.blocks(params)``.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> params = {"k": jnp.zeros((3, 3, 1, 8)), "w": jnp.zeros((8, 10)), "b": jnp.zeros(10)}
        >>> spec = symmetry.parse(params, {"k": "_ _ _ c", "w": "c _", "b": "_"})
        >>> fixed_as_units(spec).axes
        {'b': 'outputs10', 'k': 'k.0 k.1 inputs1 c', 'w': 'c outputs10'}
    """
    free = recut(spec, "free")
    taken = {units.name for units in free.units}
    units, leaves = list(free.units), []
    for leaf in free.leaves:
        trees: list[Axis] = []
        for k, tree in enumerate(leaf.trees):
            if isinstance(tree, Fixed) and tree.name is None and tree.size > 1:
                name = f"{leaf.path}.{k}".replace("/", ".").replace("#", ".")
                while name in taken:
                    name += "."
                taken.add(name)
                units.append(Units(name, tree.size))
                tree = Unit(name, tree.size)
            trees.append(tree)
        leaves.append(Leaf(leaf.path, leaf.shape, tuple(trees)))
    return Spec(tuple(leaves), tuple(units))
