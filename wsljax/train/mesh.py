"""Device meshes: the zoo axis is the data axis.

Populations and batches of networks are split over the mesh axis `"zoo"`; everything else is
replicated. Meshes are built with `AxisType.Auto`, so the functions of this library (shuffling the
models, scanning over them, comparing them pairwise) run on them as they run on one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

ZOO_AXIS = "zoo"


def make_mesh(
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
    *,
    axis: str = ZOO_AXIS,
) -> Mesh:
    """A one-axis mesh over `devices` (default: all of them).

    Args:
        devices: the devices to use, in order.
        axis: the name of the only mesh axis.

    Returns:
        A mesh whose axis is of type `Auto`.

    Example:
        >>> make_mesh(jax.devices()[:1]).shape["zoo"]
        1
    """
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)


def shard(tree: Any, mesh: Mesh | None, *, axis: str = ZOO_AXIS) -> Any:
    """Split the leading axis of every array of `tree` over the mesh axis `axis`.

    Shapes: every array leaf is `(n, ...)` with `n` divisible by the size of the mesh axis.

    Args:
        tree: any pytree; leaves that are not arrays are left alone.
        mesh: where to place it; `None` leaves `tree` as it is.
        axis: the mesh axis.

    Returns:
        The same tree, placed.

    Raises:
        ValueError: `axis` is not an axis of the mesh, or a leading axis does not divide by it.
    """
    if mesh is None:
        return tree
    _require_axis(mesh, axis)
    count = mesh.shape[axis]
    for path, leaf in jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]:
        if leaf.ndim == 0 or leaf.shape[0] % count:
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "the array"
            raise ValueError(
                f"`shard`: {name} has shape {leaf.shape}, whose leading axis cannot be split over "
                f"{count} devices of mesh axis {axis!r}; pad it to a multiple of {count} "
                "(`zoo.pad_models`) or use `replicate`."
            )
    return _place(tree, NamedSharding(mesh, PartitionSpec(axis)))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Place a full copy of every array of `tree` on each device of `mesh` (`None`: leave it)."""
    return tree if mesh is None else _place(tree, NamedSharding(mesh, PartitionSpec()))


def _place(tree: Any, sharding: NamedSharding) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, sharding), rest)


def _require_axis(mesh: Mesh, axis: str) -> None:
    if axis not in mesh.shape:
        raise ValueError(
            f"the mesh has axes {tuple(mesh.axis_names)} but no axis {axis!r}; build it with "
            f"`train.make_mesh()` or name the axis to use."
        )
