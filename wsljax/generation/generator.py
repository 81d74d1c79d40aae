"""Generators: what learns a distribution over networks and draws from it.

All families share one protocol. A generator is data (an equinox module) with two methods: a loss on a batch,
and drawing one network. Fitting, drawing many networks, chunks and devices are the same for all of them.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..train.mesh import ZOO_AXIS
from ..zoo.chunks import pad_models, round_up


class Batch(NamedTuple):
    """Networks and what they are conditioned on; everything has one leading axis of one length.

    Attributes:
        params: stacked networks (once `Generator.prepare` has been applied, what it made of them).
        condition: any tree of arrays, or None.
    """

    params: Any
    condition: Any = None


class Generator(eqx.Module):
    """A distribution over networks that can be fitted to a population and drawn from.

    A family says what its loss is and how one network is drawn. See `fit` and `sample_population`.
    What is kept in a file are its arrays (its shapes are not, which equinox takes for arrays when it reads);
    they are put into a generator that was made alike.

    Example:
        >>> import tempfile
        >>> from wsljax.generation.baselines import EntryGaussian
        >>> fitted, alike = (EntryGaussian({"w": stack}) for stack in (jnp.eye(3), jnp.zeros((3, 3))))
        >>> with tempfile.TemporaryFile() as file:
        ...     eqx.tree_serialise_leaves(file, eqx.filter(fitted, eqx.is_array))
        ...     file.seek(0)
        ...     arrays = eqx.tree_deserialise_leaves(file, eqx.filter(alike, eqx.is_array))
        0
        >>> again = eqx.combine(arrays, alike)
        >>> bool((again.sample(jax.random.key(0), 5)["w"] == fitted.sample(jax.random.key(0), 5)["w"]).all())
        True
    """

    @abc.abstractmethod
    def loss(self, batch: Batch, *, key: jax.Array) -> Any:
        """What fitting minimises, on a prepared batch: a scalar, or a scalar and a dict of scalars."""

    @abc.abstractmethod
    def draw(
        self, key: jax.Array, *, condition: Any = None, guidance: Any = None, **options: Any
    ) -> Any:
        """One network; traceable. `guidance` is None (which is 1) or the scale of guidance."""

    def prepare(self, batch: Batch) -> Batch:
        """What can be done to networks before they are trained on, once: encoding, for instance."""
        return batch

    def trainable(self) -> Any:
        """Which leaves are fitted: a tree of booleans like `self` (by default all inexact arrays)."""
        return jax.tree.map(eqx.is_inexact_array, self)

    def sample(
        self,
        key: jax.Array,
        n: int,
        *,
        condition: Any = None,
        guidance: Any = 1.0,
        at_once: int | None = None,
        mesh: Mesh | None = None,
        **options: Any,
    ) -> Any:
        """Draw networks: one compiled program, kept for later calls.

        Network `i` is a function of `key` and `i` alone (and of its condition): neither `n`, nor chunks, nor
        devices, nor an enclosing `jit` or `vmap` change it.

        Args:
            key: a typed key.
            n: how many.
            condition: a tree of arrays `(n, ...)`, one row a network, or None.
            guidance: the scale of classifier-free guidance: 1 is none, 0 ignores the condition.
            at_once: how many networks are worked on at the same time (default: all).
            mesh: split the networks over its axis `"zoo"`.
            **options: of the family, as the sampler.

        Returns:
            Stacked networks, `(n, ...)`.

        Raises:
            ValueError: `n` or `at_once` is not positive, or rows of `condition` are not `n`.
        """
        if n < 1 or (at_once is not None and at_once < 1):
            raise ValueError(f"`n` is {n} and `at_once` {at_once}; both are numbers of networks.")
        for path, leaf in jax.tree_util.tree_flatten_with_path(condition)[0]:
            if np.ndim(leaf) == 0 or np.shape(leaf)[0] != n:
                name = jax.tree_util.keystr(path, simple=True, separator="/") or "the array"
                raise ValueError(
                    f"`condition`: {name} has shape {np.shape(leaf)}; it needs one row for each of "
                    f"the {n} networks, as in `jnp.full({n}, value)`."
                )
        condition = jax.tree.map(jnp.asarray, condition)
        plain = isinstance(guidance, (int, float)) and guidance == 1
        if not plain and not callable(guidance):
            guidance = jnp.asarray(guidance, jnp.float32)
        chunk = round_up(min(at_once or n, n), mesh)
        return _draw_all(self, key, n, condition, None if plain else guidance, chunk, mesh, options)


def only(generator: Generator, *names: str) -> Any:
    """For `Generator.trainable`: the inexact arrays of these fields, and nothing else."""
    flags = jax.tree.map(lambda _: False, generator)
    for name in names:
        part = getattr(generator, name)
        if jax.tree.leaves(part):
            marked = jax.tree.map(eqx.is_inexact_array, part)
            flags = eqx.tree_at(lambda g, name=name: getattr(g, name), flags, marked)
    return flags


@eqx.filter_jit
def _draw_all(
    generator: Generator,
    key: jax.Array,
    n: int,
    condition: Any,
    guidance: Any,
    chunk: int,
    mesh: Mesh | None,
    options: dict[str, Any],
) -> Any:
    """Chunks one after the other, each vmapped and split over the devices."""
    count = -(-n // chunk)

    def chunked(leaf: jax.Array) -> jax.Array:
        leaf = pad_models(leaf, count * chunk).reshape(count, chunk, *leaf.shape[1:])
        if mesh is None:
            return leaf
        split = NamedSharding(mesh, PartitionSpec(None, ZOO_AXIS))
        return jax.lax.with_sharding_constraint(leaf, split)

    others = []  # leaves that are not arrays, the same in all networks

    def one(index: jax.Array, condition: Any) -> Any:
        key_of_one = jax.random.fold_in(key, index)
        params = generator.draw(key_of_one, condition=condition, guidance=guidance, **options)
        arrays, rest = eqx.partition(params, eqx.is_array)
        others.append(rest)
        return arrays

    rows = jax.tree.map(chunked, (jnp.arange(n), condition))
    if count == 1:
        found = jax.vmap(one)(*jax.tree.map(lambda leaf: leaf[0], rows))
    else:
        found = jax.lax.map(lambda row: jax.vmap(one)(*row), rows)
        found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    return eqx.combine(jax.tree.map(lambda leaf: leaf[:n], found), others[0])
