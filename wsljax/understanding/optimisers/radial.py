"""Removal of radial components: no step along weights whose length does not matter.

Sources: L. Huang, X. Liu, B. Lang, B. Li, "Projection Based Weight Normalization: Efficient Method for
Optimization on Oblique Manifold in DNNs", Pattern Recognition 2020 (project, then put the norm back);
M. Yi, "Accelerating Training of Batch Normalization: A Manifold Perspective", UAI 2022 (steps on the
manifold of weights up to positive scaling: the gradient times the squared norm); for the reason to do so
with momentum, B. Heo et al., "AdamP", ICLR 2021, which guesses from the data which weights are meant: here
the spec says.

In front of a normalisation the length of a group of weights does not matter: generators all of whose
exponents have one sign (``Scale`` with nothing going out, one group for each unit; ``Uniform``, one group for
each copy). The gradient has no component along the weights then; momentum, adaptive and decayed steps
have, and with them the weights grow and the effective learning rate falls.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from wsljax.symmetry import Generator, Spec

from .scaling import collect, log_factor, one_sided, scalings, used_blocks


class RadialState(NamedTuple):
    """Logarithms of the lengths to keep, one array for each generator; empty if they are not kept."""

    length: dict[str, jax.Array]


def radial_generators(spec: Spec) -> tuple[Generator, ...]:
    """The generators whose groups of weights may have any length.

    Of generators that share blocks only the first is kept, so that groups are disjoint.
    """
    found: list[Generator] = []
    taken: set[str] = set()
    for gen in scalings(spec):
        blocks = {t.block for t in gen.terms}
        if one_sided(gen) and not blocks & taken and len(blocks) == len(gen.terms):
            found.append(gen)
            taken |= blocks
    return tuple(found)


def remove_radial(
    spec: Spec, *, keep_norm: bool = False, invariant: bool = False
) -> optax.GradientTransformation:
    """Updates without their component along weights whose length does not matter.

    Args:
        spec: with the generators; those of :func:`radial_generators` are used.
        keep_norm: after the step, give each group the length it had at the start. To stand last in the
            chain then.
        invariant: multiply updates by the squared length of their group first, so that a step on the
            gradient commutes with rescaling the groups. Meant for gradients, not for what an adaptive
            method made of them.

    Raises:
        ValueError: in the update, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> from wsljax.understanding.optimisers import remove_radial
        >>> def fn(p, x):
        ...     h = x @ p["a"]
        ...     return jnp.tanh(h / jnp.std(h, 0)) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=("permutation", "scale"))
        >>> optimiser = optax.chain(optax.adam(0.1), remove_radial(spec))
        >>> updates, _ = optimiser.update(p, optimiser.init(p), p)
        >>> bool(jnp.max(jnp.abs(jnp.sum(updates["a"] * p["a"], 0))) < 1e-6)
        True
    """
    generators = radial_generators(spec)

    def init(params):
        spec.flatten(params)
        if not keep_norm:
            return RadialState({})
        w = used_blocks(spec, params, generators)
        return RadialState({g.name: _log_length(g, w) for g in generators})

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "`remove_radial` needs the weights: call update(updates, state, params)"
            )
        w = used_blocks(spec, params, generators)
        given = spec.blocks(updates)
        u = {n: given[n].astype(x.dtype) for n, x in w.items()}
        for gen in generators:
            mine = {t.block for t in gen.terms}
            if invariant:
                length = {gen.name: _log_length(gen, w)}
                u |= {n: u[n] * jnp.exp(2 * log_factor([gen], length, n, w[n])) for n in mine}
            along = collect(gen, {n: w[n] * u[n] for n in mine})
            square = collect(gen, {n: w[n] ** 2 for n in mine}, power=2)
            sign = 1 if gen.terms[0].exponent > 0 else -1
            part = {gen.name: sign * along / jnp.where(square > 0, square, 1)}
            u |= {n: u[n] - w[n] * log_factor([gen], part, n, w[n]) for n in mine}
            if keep_norm:
                there = {n: w[n] + u[n] for n in mine}
                grown = {gen.name: state.length[gen.name] - _log_length(gen, there)}
                u |= {
                    n: x * jnp.exp(log_factor([gen], grown, n, x)) - w[n] for n, x in there.items()
                }
        out = {n: u[n].astype(x.dtype) if n in u else x for n, x in given.items()}
        return spec.unblocks(out, like=updates), state

    return optax.GradientTransformation(init, update)


def _log_length(gen: Generator, w: dict[str, jax.Array]) -> jax.Array:
    """For each copy the ``t`` for which the weights divided by ``exp(A t)`` have the length one.

    For exponents of one this is the logarithm of the length. Else the equation is convex and increasing
    in ``t``, and Newton's steps in logarithms go quickly. Zero where there are no weights.
    """
    sign = 1 if gen.terms[0].exponent > 0 else -1
    mine = {t.block: w[t.block] for t in gen.terms}
    same = len({abs(t.exponent) for t in gen.terms}) == 1

    def step(t):
        x = {
            n: (b * jnp.exp(-log_factor([gen], {gen.name: t}, n, b))) ** 2 for n, b in mine.items()
        }
        total = collect(gen, x)
        slope = 2 * collect(gen, x, power=2) / jnp.where(total > 0, total, 1)
        return t + jnp.where(
            total > 0,
            sign * jnp.log(jnp.where(total > 0, total, 1)) / jnp.where(slope > 0, slope, 1),
            0,
        )

    t = jnp.zeros(gen.shape, next(iter(mine.values())).dtype)
    for _ in range(2 if same else 12):
        t = step(t)
    return t
