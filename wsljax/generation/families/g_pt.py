"""G.pt: a network from any checkpoint and a metric that is asked for.

The recipe of W. Peebles et al., "Learning to learn with generative models of neural network checkpoints", 2022,
and its code: a transformer on pieces of at most 1,000 weights sees the noisy network, the checkpoint to start
from, the metric that this one has and the one that is wanted, and says the new network as the start and a
difference; DDPM with 1,000 steps; pairs of checkpoints are of one run, the later one is the target, and both
are moved by the same permutation. Asking for a loss of zero is the published way to use it.

What differs: weights are normalised per block and not by one number; metrics and level modulate the blocks,
where theirs are tokens; the start stands beside each piece, where theirs has tokens of its own. With a
``method`` of ``wsljax.representation`` the denoiser is equivariant, and nothing need be moved in training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Spec
from ...zoo.chunks import take_models
from ...zoo.population import Population
from ..conditions import Conditions, NetworkCondition, VectorCondition
from ..denoisers import EquivariantDenoiser, FlatDenoiser, FromBeside, TokenTransformer
from ..diffusion import Diffusion
from ..generator import Batch
from ..processes import VariancePreserving
from ..samplers import Ancestral
from ..spaces import WeightSpace
from ..spaces.space import split_floating

MOVED = ("permutation",)


class Updates(NamedTuple):
    """Pairs of checkpoints.

    Attributes:
        population: those that are to be reached.
        condition: ``start``, ``metric_start`` and ``metric_wanted``, which the population's networks have.
        rows: ``(pairs, 2)``: of start and target in the population they are from.
    """

    population: Population
    condition: dict[str, Any]
    rows: np.ndarray


def updates(
    population: Population,
    metric: str,
    *,
    key: jax.Array,
    n: int,
    run: str = "run",
    step: str = "step",
) -> Updates:
    """Draw pairs of checkpoints of one run, the later one as the target.

    Args:
        population: checkpoints, with columns of their run and of their step.
        metric: the column that is asked for.
        key: a typed key.
        n: how many pairs; runs are drawn uniformly, then the distance, then the start.
        run, step: names of the columns.

    Raises:
        ValueError: a column that is not there, or no run of two checkpoints.

    Example:
        >>> columns = {"run": jnp.array([0, 0, 1, 1]), "step": jnp.array([0, 5, 5, 0]), "loss": jnp.arange(4.0)}
        >>> found = updates(Population({"w": jnp.arange(4.0)}, columns), "loss", key=jax.random.key(0), n=20)
        >>> sorted(map(tuple, np.unique(found.rows, axis=0).tolist()))
        [(0, 1), (3, 2)]
    """
    for name in (metric, run, step):
        if name not in population.columns:
            raise ValueError(f"there is no column {name!r}; there are {sorted(population.columns)}")
    runs, steps = (np.asarray(population.columns[name]) for name in (run, step))
    order = np.lexsort((steps, runs))
    found, starts, counts = np.unique(runs[order], return_index=True, return_counts=True)
    long = counts >= 2
    if not long.any():
        raise ValueError(f"no run among {len(found)} has two checkpoints; see column {run!r}")
    starts, counts = starts[long], counts[long]
    draws = np.asarray(jax.random.uniform(key, (3, n)), np.float64)
    which = (draws[0] * len(starts)).astype(int)
    spacing = 1 + (draws[1] * (counts[which] - 1)).astype(int)
    first = (draws[2] * (counts[which] - spacing)).astype(int)
    at = starts[which] + first
    rows = np.stack([order[at], order[at + spacing]], axis=1)
    values = jnp.asarray(population.columns[metric])
    condition = prompt(
        take_models(population.params, rows[:, 0]), values[rows[:, 0]], values[rows[:, 1]]
    )
    return Updates(population.take(rows[:, 1]), condition, rows)


def prompt(start: Any, metric_start: Any, metric_wanted: Any) -> dict[str, Any]:
    """The condition of ``sample`` for networks to start from, and of training.

    Args:
        start: stacked networks ``(n, ...)``; what is not floating is left out.
        metric_start: what they have, ``(n,)``.
        metric_wanted: what is asked for, ``(n,)`` or one number.
    """
    has = jnp.asarray(metric_start)
    wanted = jnp.broadcast_to(jnp.asarray(metric_wanted, has.dtype), has.shape)
    floating = split_floating(start)[0]
    return {"start": floating, "metric_start": has, "metric_wanted": wanted}


class PromptedDiffusion(Diffusion):
    """Diffusion in which the network and those beside it are moved by one element of the group in training.

    Attributes: those of ``Diffusion``, and
        moved: the spec of ``x`` and of the ``start``; None where nothing is moved.
    """

    moved: Spec | None = eqx.field(static=True)

    def __init__(self, net: Any, space: Any, *, moved: Spec | None = None, **options: Any):
        super().__init__(net, space, **options)
        self.moved = moved

    def loss(self, batch: Batch, *, key: jax.Array) -> jax.Array:
        if self.moved is not None:
            move_key, key = jax.random.split(key)
            keys = jax.random.split(move_key, jax.tree.leaves(batch.params)[0].shape[0])
            batch = jax.vmap(self._moved)(batch, keys)
        return super().loss(batch, key=key)

    def _moved(self, one: Batch, key: jax.Array) -> Batch:
        spec = self.moved
        assert spec is not None
        element = spec.sample(key, kinds=MOVED)
        start = spec.act(element, one.condition["start"])
        return Batch(spec.act(element, one.params), {**one.condition, "start": start})


def g_pt(
    pairs: Updates,
    *,
    key: jax.Array,
    width: int = 256,
    layers: int = 6,
    heads: int | None = None,
    pieces: int | None = 1000,
    method: str | None = None,
    moved: bool = True,
    waves: int = 16,
    told: int = 64,
    steps: int = 100,
    **options: Any,
) -> PromptedDiffusion:
    """A generator to be fitted to ``pairs.population`` with the condition ``pairs.condition``.

    Args:
        pairs: of checkpoints, from :func:`updates`; spaces and metrics are normalised by them.
        key: of the initial weights.
        width, layers: of the transformer, or channels and layers of another denoiser.
        heads, pieces: of the transformer.
        method: what equivariant denoiser to take, one of ``wsljax.representation.methods``, for which the
            population needs a spec; "flat" for a residual network on all weights as one vector, for runs
            that are aligned (:func:`.align_runs`); None for the transformer.
        moved: whether start and target are moved by permutations in training; where there is a spec, and the
            denoiser is not equivariant.
        waves: sines and cosines of each metric.
        told: size of the vector that a metric becomes.
        steps: of the sampler.
        **options: of the denoiser.

    Raises:
        ValueError: an equivariant denoiser for networks without a spec.

    Example:
        >>> columns = {"run": jnp.arange(12) // 2, "step": jnp.arange(12) % 2, "loss": jnp.linspace(1, 0, 12)}
        >>> zoo = Population({"w": jax.random.normal(jax.random.key(0), (12, 3, 2))}, columns)
        >>> pairs = updates(zoo, "loss", key=jax.random.key(1), n=10)
        >>> model = g_pt(pairs, key=jax.random.key(2), width=8, layers=1, steps=2)
        >>> asked = prompt(zoo.params, zoo.columns["loss"], 0.0)
        >>> model.sample(jax.random.key(3), 12, condition=asked)["w"].shape
        (12, 3, 2)
    """
    net_key, has_key, wants_key = jax.random.split(key, 3)
    space = WeightSpace.fit(pairs.population)
    spec = space.spec
    metrics = {
        name: VectorCondition.fit(np.asarray(pairs.condition[name]), told, key=k, waves=waves)
        for name, k in (("metric_start", has_key), ("metric_wanted", wants_key))
    }
    conditioner = Conditions({"start": NetworkCondition(), **metrics})
    heard: dict[str, Any] = {"told": conditioner.size, "beside": 1, "key": net_key, **options}
    if method is None:
        net: Any = TokenTransformer.on_trees(
            space.like, width, layers, pieces=pieces, heads=heads, **heard
        )
    elif method == "flat":
        net = FlatDenoiser(space.like, width, layers, **heard)
    elif spec is None:
        raise ValueError(
            f"the denoiser {method!r} needs the spec of its networks: `population.with_spec(spec)`"
        )
    else:
        net = EquivariantDenoiser(spec, width, layers, method=method, **heard)
    return PromptedDiffusion(
        FromBeside(net),
        space,
        moved=spec if moved and method in (None, "flat") else None,
        path=VariancePreserving.linear(1000),
        target="data",
        sampler=Ancestral(steps),
        conditioner=conditioner,
    )
