"""The average of many networks, each aligned to the others.

S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", ICLR 2023,
algorithm 3 (MergeMany): in random order, each network is aligned to the mean of the others, until none moves.
How two networks are aligned is the caller's: any matching function will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Spec
from .curves import align_end
from .paths import mix


class Merged(NamedTuple):
    """What :func:`merge_many` gives.

    Attributes:
        params: the mean of ``members``.
        members: the networks, aligned to each other.
        distances: mean squared distance of the members to their mean: as given, then after each sweep.
    """

    params: Any
    members: tuple[Any, ...]
    distances: tuple[float, ...]


def average(networks: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
    """The (weighted) mean of networks; leaves that are not floating are those of the first.

    Example:
        >>> float(average([1.0, 2.0, 6.0]))
        3.0
    """
    if not len(networks):
        raise ValueError("there is no network to average")
    return mix(networks, [1 / len(networks)] * len(networks) if weights is None else weights)


def merge_many(
    networks: Sequence[Any],
    spec: Spec,
    match: Callable[..., Any],
    *,
    key: jax.Array,
    sweeps: int = 20,
    tolerance: float = 1e-6,
) -> Merged:
    """Align networks to each other, each in turn to the mean of the others, and average them.

    Every alignment that brings its network closer is kept, others are not, so distances never grow and it
    ends.

    Args:
        networks: two or more, of one spec.
        spec: the group.
        match: ``match(reference, network, spec, key=key)``, which gives an element of the group that
            brings ``network`` close to ``reference``, or something with an ``element``.
        key: draws the orders, and goes to ``match``.
        sweeps: rounds through all networks, at most.
        tolerance: stop where a sweep lessens the distance by less, relatively.

    Raises:
        ValueError: for fewer than two networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> k = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k[0], (3, 4)), "b": jax.random.normal(k[1], (4, 2))}
        >>> spec = symmetry.infer(fn, p, jnp.ones((8, 3)), kinds=("permutation",))
        >>> others = [spec.act(spec.sample(jax.random.key(n)), p) for n in range(3)]
        >>> def match(reference, network, spec, *, key):
        ...     # by the order of one row: enough for networks of one orbit
        ...     order = jnp.argsort(network["a"][0])[jnp.argsort(jnp.argsort(reference["a"][0]))]
        ...     return {spec.units[0].name: order}
        >>> merged = merge_many([p, *others], spec, match, key=k[2])
        >>> x = jax.random.normal(k[2], (8, 3))
        >>> bool(jnp.allclose(fn(merged.params, x), fn(p, x), atol=1e-5))
        True
    """
    members = [jax.tree.map(jnp.asarray, p) for p in networks]
    count = len(members)
    if count < 2:
        raise ValueError(f"merging takes at least 2 networks, got {count}")
    distances = [_spread(members)]
    for sweep in range(sweeps):
        own = jax.random.fold_in(key, sweep)
        for i in np.asarray(jax.random.permutation(own, count)):
            reference = average([m for j, m in enumerate(members) if j != i])
            element = match(reference, members[i], spec, key=jax.random.fold_in(own, int(i)))
            moved = align_end(reference, members[i], spec, element)
            if _distance(moved, reference) < _distance(members[i], reference):
                members[i] = moved
        distances.append(_spread(members))
        if distances[-2] - distances[-1] <= tolerance * distances[-2]:
            break
    return Merged(average(members), tuple(members), tuple(distances))


def _distance(a: Any, b: Any) -> float:
    """The squared distance of two networks."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    wide = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    return float(sum(np.sum((x - y) ** 2) for x, y in wide))


def _spread(members: Sequence[Any]) -> float:
    mean = average(members)
    return sum(_distance(m, mean) for m in members) / len(members)
