"""Checkpoints: the only file that knows how orbax is called.

A checkpoint is the array leaves of a pytree, each under its path, plus JSON items (spec, config,
history) of the same step. Restoring always takes a target of the same structure, so a Module comes
back as a Module, a NamedTuple as a NamedTuple, and a wrong target is an error that names the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsljax.train.logs import to_json


class Checkpointer:
    """Numbered checkpoints in one folder, written whole or not at all.

    Args:
        folder: where they go; it is made.
        keep: how many of the newest checkpoints stay (`None`: all).

    Example:
        >>> import tempfile
        >>> store = Checkpointer(tempfile.mkdtemp())
        >>> tree = {"kernel": jnp.ones((2, 3)), "key": jax.random.key(0)}
        >>> store.save(5, tree, {"note": "five"})
        >>> store.latest()
        5
        >>> store.restore(tree)["kernel"].shape, store.items()["note"]
        ((2, 3), 'five')
    """

    def __init__(self, folder: str | Path, *, keep: int | None = 1):
        import orbax.checkpoint as ocp  # on first use: it costs a quarter of a second

        self.folder = Path(folder).absolute()
        self._ocp = ocp
        handlers = {"arrays": ocp.StandardCheckpointHandler(), "items": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers=handlers,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, enable_async_checkpointing=False
            ),
        )

    def save(self, step: int, tree: Any, items: Mapping[str, Any] | None = None) -> None:
        """Write the arrays of `tree` and the JSON `items` as checkpoint `step`, replacing it.

        Every process must call this. Leaves that are not arrays (activation functions, sizes) are
        left out: they come from the target on restoring.
        """
        if step in self.steps():
            self._manager.delete(step)
        args = self._ocp.args
        self._manager.save(
            int(step),
            args=args.Composite(
                arrays=args.StandardSave(_named_arrays(tree)),
                items=args.JsonSave(to_json(dict(items or {}))),
            ),
        )
        self._manager.wait_until_finished()

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The tree saved at `step` (default: the newest), in the structure of `like`.

        Args:
            like: a pytree of the structure that was saved, of arrays or ShapeDtypeStructs; leaves
                that are not arrays are taken from it. Arrays come back with the sharding they have
                in `like`.
            step: which checkpoint.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: a leaf is missing, is not expected, or has another shape or dtype; names it.
        """
        step = self._existing(step)
        wanted = _named_arrays(like)
        args = self._ocp.args
        saved = self._manager.item_metadata(step)["arrays"]
        _compare(wanted, {name: saved[name] for name in saved.keys()}, self.folder, step)
        target = {name: _abstract(leaf) for name, leaf in wanted.items()}
        found = self._manager.restore(
            step, args=args.Composite(arrays=args.StandardRestore(target))
        )["arrays"]
        return _unname(found, like)

    def items(self, step: int | None = None) -> dict[str, Any]:
        """The JSON items saved at `step` (default: the newest)."""
        step = self._existing(step)
        args = self._ocp.args
        return self._manager.restore(step, args=args.Composite(items=args.JsonRestore()))["items"]

    def steps(self) -> tuple[int, ...]:
        """The steps that have a complete checkpoint, in order."""
        return tuple(sorted(self._manager.all_steps()))

    def latest(self) -> int | None:
        """The newest step, or None."""
        return max(self.steps(), default=None)

    def close(self) -> None:
        """Release what orbax holds."""
        self._manager.close()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _existing(self, step: int | None) -> int:
        step = self.latest() if step is None else step
        if step is None or step not in self.steps():
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint {'at all' if step is None else step}; "
                f"it has the steps {list(self.steps())}."
            )
        return step


def _path_name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "."


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, (np.ndarray, np.generic, jax.ShapeDtypeStruct))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named_arrays(tree: Any) -> dict[str, Any]:
    """Path -> array; typed keys as the integers behind them."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not _is_array(leaf):
            continue
        if _is_key(leaf):
            raw = jax.random.key_data if eqx.is_array(leaf) else _abstract_key_data
            leaf = raw(leaf)
        named[_path_name(path)] = np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
    return named


def _abstract_key_data(leaf: jax.ShapeDtypeStruct) -> Any:
    return jax.eval_shape(jax.random.key_data, leaf)


def _key_impl(leaf: Any) -> Any:
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)) or key, leaf)
    return found[0]


def _abstract(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _unname(found: Mapping[str, Any], like: Any) -> Any:
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, leaf in paths:
        if _is_array(leaf):
            value = found[_path_name(path)]
            if _is_key(leaf):
                value = jax.random.wrap_key_data(value, impl=_key_impl(leaf))
            leaf = value[()] if isinstance(leaf, np.generic) else value
        leaves.append(leaf)
    return jax.tree_util.tree_unflatten(structure, leaves)


def _compare(wanted: Mapping[str, Any], saved: Mapping[str, Any], folder: Path, step: int) -> None:
    where = f"checkpoint {step} in {folder}"
    for name, leaf in wanted.items():
        if name not in saved:
            raise ValueError(
                f"{where} has no leaf {name!r}; it was written from another structure. "
                "Restore into the structure that was saved, or start a new folder."
            )
        if tuple(saved[name].shape) != tuple(leaf.shape) or saved[name].dtype != leaf.dtype:
            raise ValueError(
                f"{where}: leaf {name!r} has shape {tuple(saved[name].shape)} {saved[name].dtype}, "
                f"the target has {tuple(leaf.shape)} {leaf.dtype}; build the target with the "
                "settings of the run that wrote it."
            )
    extra = sorted(set(saved) - set(wanted))
    if extra:
        raise ValueError(
            f"{where} also holds {extra[0]!r}, which the target does not have; "
            "restore into the structure that was saved."
        )
