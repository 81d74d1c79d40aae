"""Training runs side by side: every run moved, as a whole, to where its last checkpoint lies next to the others.

Runs of different starts end in different orbits, and a generator that goes from checkpoint to checkpoint has to
learn each of their ways. All checkpoints of a run moved by one element of the group are again a run, of the
moved start: what connects them is kept, and the ways of all runs become one family. A new start is moved to where
the starts of those runs lie; that is the best that is known of where its own run would end, which is little. An
equivariant denoiser needs none of this.

After S. Ainsworth et al., "Git Re-Basin", 2023, for the alignment, and W. Peebles et al., "Learning to learn with
generative models of neural network checkpoints", 2022, for what it is used for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Spec
from ...understanding.matching import weight_matching
from ...zoo.population import Population
from ...zoo.preprocessing.split import last_checkpoints
from ..spaces import CanonicalSpace
from ..spaces.space import on_device, split_floating

MOVED = ("permutation",)


class AlignedRuns(NamedTuple):
    """Runs that were moved.

    Attributes:
        population: all checkpoints, in the order they had.
        start: the mean of the first checkpoints of all runs, floating leaves: what new starts are aligned to.
        spec: of the floating leaves of one network.
        key: decides the order of visits in alignment.
    """

    population: Population
    start: Any
    spec: Spec
    key: jax.Array

    def align(self, params: Any) -> Any:
        """Starts of other runs, stacked ``(n, ...)``, moved next to the starts of these."""
        floating, others = split_floating(on_device(params))
        element = _found(self.start, floating, self.spec, self.key)
        return eqx.combine(_moved(self.spec, element, floating), others)


def align_runs(
    population: Population,
    *,
    key: jax.Array,
    run: str = "run",
    step: str = "step",
    rounds: int = 3,
    reference: int = 2000,
) -> AlignedRuns:
    """Move each run by the permutation that brings its last checkpoint to a mean of aligned last checkpoints.

    Args:
        population: checkpoints, with columns of their run and of their step, and a spec.
        key: decides the order of visits in alignment.
        run, step: names of the columns.
        rounds: of the mean, as for :meth:`.CanonicalSpace.fit`.
        reference: how many runs the mean is of, at most.

    Raises:
        ValueError: no spec, or a column that is not there.

    Example:
        >>> from wsljax import symmetry
        >>> end = {"a": jnp.arange(12.0).reshape(4, 3), "b": jnp.ones((3, 2))}
        >>> spec = symmetry.parse(end, {"a": "_ h", "b": "h _"})
        >>> moved = spec.act({"h": jnp.array([2, 0, 1])}, end)  # the same run with other units
        >>> stack = jax.tree.map(lambda x, y: jnp.stack([0.1 * x, x, 0.1 * y, y]), end, moved)
        >>> columns = {"run": jnp.array([0, 0, 1, 1]), "step": jnp.array([0, 1, 0, 1])}
        >>> found = align_runs(Population(stack, columns, spec), key=jax.random.key(0))
        >>> a = found.population.params["a"]
        >>> bool((a[:2] == a[2:]).all())
        True
    """
    if population.spec is None:
        raise ValueError("runs are aligned by a spec: `population.with_spec(spec)`")
    for name in (run, step):
        if name not in population.columns:
            raise ValueError(f"there is no column {name!r}; there are {sorted(population.columns)}")
    runs, steps = (np.asarray(population.columns[name]) for name in (run, step))
    last = last_checkpoints(runs.tolist(), steps.tolist())
    ends = population.take(last)
    some = ends.take(np.arange(min(reference, len(ends))))
    space = CanonicalSpace.fit(some, key=key, rounds=rounds, scales=False, kinds=MOVED)
    spec = space.spec
    element = _found(space.reference, split_floating(ends.params)[0], spec, key)
    of_run = np.unique(runs, return_inverse=True)[1]
    which = np.argsort(runs[last])[of_run]  # the last checkpoint of the run of each
    element = jax.tree.map(lambda x: jnp.asarray(x)[which], element)
    floating, others = split_floating(on_device(population.params))
    moved = _moved(spec, element, floating)
    first = last_checkpoints(runs.tolist(), (steps.max() - steps).tolist())
    start = jax.tree.map(lambda x: x[first].mean(0), moved)
    return AlignedRuns(population.with_params(eqx.combine(moved, others)), start, spec, key)


def _found(to: Any, stack: Any, spec: Spec, key: jax.Array) -> dict[str, jax.Array]:
    return weight_matching(to, stack, spec, key=key, kinds=MOVED).element


def _moved(spec: Spec, element: dict[str, jax.Array], stack: Any) -> Any:
    return jax.jit(jax.vmap(spec.act))(element, stack)
