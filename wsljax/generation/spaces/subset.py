"""Some leaves are generated, the others kept: normalisation layers alone, a head, an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import equinox as eqx

from ...symmetry import Spec
from .leaves import Dtypes, dtypes_of, join, map_paths, shapes, split, unpack, widened, with_dtypes
from .restrict import restrict
from .space import Space


class SubsetSpace(Space):
    """The leaves that match some patterns; all others are those of one network.

    ``decode(encode(params))`` is ``params`` where the other leaves are those that are kept. Its ``spec`` is
    the symmetry that is left: units that a kept leaf tells apart cannot be exchanged any more.

    Example:
        >>> import jax.numpy as jnp
        >>> stack = {"body": jnp.ones((5, 3)), "head": {"w": jnp.zeros((5, 2)), "b": jnp.zeros((5, 1))}}
        >>> space = SubsetSpace.fit(stack, ["head/*"])
        >>> space.paths
        ('head/b', 'head/w')
        >>> x = space.encode({"body": jnp.zeros(3), "head": {"w": jnp.ones(2), "b": jnp.ones(1)}})
        >>> space.decode(x)["body"].tolist(), space.decode(x)["head"]["w"].tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0])
    """

    like: Any
    others: Any
    dtypes: Dtypes = eqx.field(static=True)
    spec: Spec | None = eqx.field(static=True, default=None)

    @staticmethod
    def fit(
        networks: Any, patterns: Sequence[str] | str, *, kept: Any = None, spec: Spec | None = None
    ) -> SubsetSpace:
        """Choose leaves.

        Args:
            networks: a ``Population`` or a tree of arrays ``(models, ...)``.
            patterns: of the paths of leaves to generate, as ``"layer4/*/bn2/*"`` (shell patterns).
            kept: one network whose other leaves are kept; by default the first of ``networks``.
            spec: the symmetry of one network; by default that of the population.

        Raises:
            ValueError: a pattern that no floating leaf matches.
        """
        _, one, spec = unpack(networks, spec)
        kept = one if kept is None else kept
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        known = [path for path, _ in dtypes_of(split(kept)[0])]
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in known):
                raise ValueError(f"no floating leaf matches {pattern!r}; there are {known[:20]}")
        chosen = {p for p in known if any(fnmatchcase(p, pattern) for pattern in patterns)}
        floating, others = eqx.partition(kept, _among(kept, chosen))
        if spec is not None:
            spec = restrict(spec, kept, chosen)
        return SubsetSpace(shapes(widened(floating)), others, dtypes_of(floating), spec)

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves that are generated."""
        return tuple(path for path, _ in self.dtypes)

    def encode(self, params: Any) -> Any:
        """The chosen leaves of one network, in at least float32; ``None`` for the others."""
        chosen = eqx.partition(params, _among(params, set(self.paths)))[0]
        return widened(chosen)

    def decode(self, x: Any) -> Any:
        """One network: the given leaves, and those that are kept."""
        return join(with_dtypes(x, self.dtypes), self.others)


def _among(params: Any, chosen: set[str]) -> Any:
    return map_paths(lambda path, _: path in chosen, params)
