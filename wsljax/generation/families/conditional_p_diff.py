"""Conditional p-diff: latent diffusion that is told what the network is for; adapters in particular.

The recipe of X. Jin et al., "Conditional LoRA Parameter Generation" (COND P-DIFF), 2024: the autoencoder and
the latent diffusion of p-diff, where the denoiser is told a condition (an embedding of texts or of pictures,
through a dense network), on the weights of low-rank adapters.

What differs: the condition is hidden now and then, so that it can be amplified by ``guidance``; and adapters
can be aligned first. A pair of matrices ``down`` and ``up`` says no more than their product: the same adapter
is ``down A, inverse(A) up`` for any invertible ``A``, and published generators learn all of these places. Here
each pair is balanced and brought next to that of the first adapter, which needs a spec with the kind
``"linear"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from ...symmetry import Linear
from ..conditions import Condition, Dropped
from ..diffusion import Diffusion
from .p_diff import p_diff


def conditional_p_diff(
    population: Any,
    conditioner: Condition,
    *,
    key: jax.Array,
    drop: float = 0.1,
    leaves: Sequence[str] | str | None = None,
    **options: Any,
) -> Diffusion:
    """A generator to be fitted to the same population and its conditions.

    Args:
        population: training networks, a ``Population`` or stacked weights.
        conditioner: what it is told: ``VectorCondition`` for embeddings, ``ClassCondition`` for classes.
        key: of the autoencoder and of the initial weights.
        drop: how often the condition is hidden in training; 0 for never, as published.
        leaves: patterns of the leaves that are generated; None for all.
        **options: of ``p_diff``.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.generation.conditions import ClassCondition
        >>> zoo = {"w": jax.random.normal(jax.random.key(0), (12, 3, 2))}
        >>> model = conditional_p_diff(
        ...     zoo, ClassCondition(3, 8, key=jax.random.key(1)), key=jax.random.key(2), channels=(4,),
        ...     steps=2, autoencoder={"size": 2, "channels": (4,), "steps": 2})
        >>> drawn = model.sample(jax.random.key(3), 3, condition=jnp.arange(3), guidance=2.0)
        >>> drawn["w"].shape
        (3, 3, 2)
    """
    drop_key, key = jax.random.split(key)
    if drop:
        conditioner = Dropped(conditioner, drop, key=drop_key)
    return p_diff(population, key=key, leaves=leaves, conditioner=conditioner, **options)


def lora_diffusion(
    population: Any,
    conditioner: Condition | None = None,
    *,
    key: jax.Array,
    align: bool = True,
    **options: Any,
) -> Diffusion:
    """A generator of low-rank adapters, each pair of matrices in one of its many places.

    Args:
        population: training adapters, a ``Population``; with a spec that has the kind ``"linear"`` where
            they are to be aligned, as ``symmetry.infer(fn, adapters, x, kinds=("linear",))`` finds it.
        conditioner: what it is told, or None.
        key: of the alignment, the autoencoder and the initial weights.
        align: whether pairs are balanced and aligned to those of the first adapter.
        **options: of ``conditional_p_diff`` or ``p_diff``.

    Raises:
        ValueError: adapters that cannot be aligned, for want of a spec of that kind.
    """
    if align:
        generators = getattr(getattr(population, "spec", None), "generators", ())
        if not any(isinstance(gen, Linear) for gen in generators):
            raise ValueError(
                "adapters are aligned by a spec of the kind 'linear', which these have not; find it by "
                '`symmetry.infer(fn, adapters, x, kinds=("linear",))` and keep it by '
                "`population.with_spec(spec)`, or pass align=False"
            )
        options["autoencoder"] = {"align": None, **(options.get("autoencoder") or {})}
    if conditioner is None:
        return p_diff(population, key=key, **options)
    return conditional_p_diff(population, conditioner, key=key, **options)
