"""``conserved``: what gradient flow leaves constant, one quantity for each continuous symmetry.

Where a group leaves a loss ``L`` unchanged, the gradient is orthogonal to the directions ``xi_v(p)`` in which
its Lie algebra moves the weights ``p``: along ``dp/dt = -grad L(p)``, ``<dp/dt, xi_v(p)> = 0`` (Noether's
theorem for gradient flow; Kunin et al. 2021, "Neural mechanics", section 4; Zhao et al. 2023, "Symmetries,
flat minima, and the conserved quantities of gradient flow", section 4). That is the time derivative of a
quantity ``Q_v(p)`` where ``xi_v`` is itself a gradient. Here the tangent fields are affine in ``p``,
``xi_v(p) = c + A p``, so they are gradients exactly if the matrix ``A`` is symmetric, and then

    ``Q_v(p) = <xi_v(0) + xi_v(p), p> / 2``.

For a scaling, that is what the units receive minus what they send, in squares (Du et al. 2018, "Algorithmic
regularization in learning deep homogeneous models", theorem 2.1); for matrices, the symmetric part of the
same balance, ``W_in^T W_in - W_out W_out^T``; for a shift, the sum of what is shifted. Rotations have an
antisymmetric ``A``, and conserve nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .generators import Generator, Linear, Orthogonal, Shift
from .generators.base import wider
from .spec import Spec


def conserved(params: Any, spec: Spec, frozen: Sequence[str] = ()) -> dict[str, jax.Array]:
    """What is constant along the gradient flow of any loss of the network's outputs.

    It can be jitted, vmapped and differentiated. Under gradient descent with a step size ``lr`` the
    quantities drift by ``O(lr)``; momentum, weight decay and adaptive steps do not conserve them.

    Args:
        params: the weights.
        spec: from ``symmetry.infer(..., kinds=None)``; the loss may depend on the weights by the outputs
            only.
        frozen: paths of leaves that are not trained, as ``"BatchNorm_0/var"``: generators that move them
            conserve nothing.

    Returns:
        ``{generator name: array}``, in the shape of the Lie algebra: ``(*over, n)`` for scalings,
        symmetric matrices ``(*over, n, n)`` for ``Linear``, one number for each plane ``(*over, planes)``
        where it is made of planes, the shape of the amount for shifts. Generators that conserve nothing
        are left out; :func:`not_conserved` says why.

    Raises:
        ValueError: if ``params`` does not match the spec, or ``frozen`` names no leaf.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=None)
        >>> balance = jnp.sum(p["a"] ** 2, 0) - jnp.sum(p["b"] ** 2, 1)
        >>> q = conserved(p, spec)
        >>> bool(jnp.allclose(abs(q["scale:h0"]), abs(balance) / 2, rtol=1e-5))
        True
    """
    leaves = [_inexact(x) for x in spec.flatten(params)]
    structure = jax.tree_util.tree_structure(params)
    why = not_conserved(spec, frozen)
    generators = {gen.name: gen for gen in spec.generators if gen.name not in why}
    if not generators:
        return {}
    fixed = [leaf.path in frozen for leaf in spec.leaves]
    zero = [jnp.zeros_like(x) for x in leaves]
    trained = structure.unflatten([o if f else x for x, o, f in zip(leaves, zero, fixed)])
    origin = structure.unflatten([x if f else o for x, o, f in zip(leaves, zero, fixed)])
    v = {name: x for name, x in spec.algebra().items() if name in generators}
    there, here = (
        jax.vjp(lambda v, at=at: spec.act(spec.exp(v), at), v)[1](trained)[0]
        for at in (origin, structure.unflatten(leaves))
    )
    return {n: _gradient_part(g, (there[n] + here[n]) / 2) for n, g in generators.items()}


def not_conserved(spec: Spec, frozen: Sequence[str] = ()) -> dict[str, str]:
    """``{generator name: reason}`` for the generators that :func:`conserved` leaves out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=None)
        >>> not_conserved(spec)
        {'sign:h0': 'a discrete group has no directions'}
    """
    paths = [leaf.path for leaf in spec.leaves]
    unknown = [path for path in frozen if path not in paths]
    if unknown:
        raise ValueError(f"`frozen` has {unknown[0]!r}, which is no leaf; leaves: {tuple(paths)}")
    fixed = {b.name: b.path for b in spec.layout if b.path in frozen}
    reasons = {gen.name: _reason(gen, fixed) for gen in spec.generators}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(gen: Generator, fixed: dict[str, str]) -> str | None:
    """Why the tangent field of ``gen`` is no gradient of a function, in the leaves that are trained."""
    if not gen.continuous:
        return "a discrete group has no directions"
    moved = {t.block for t in gen.terms} | {c.bias for c in gen.carries}
    if isinstance(gen, Shift):
        moved.add(gen.target)
    for block in sorted(moved & set(fixed)):
        return f"it moves {fixed[block]}, which is not trained"
    if isinstance(gen, Orthogonal):
        return "its tangent fields are rotations, not gradients"
    for t in gen.terms:
        if isinstance(gen, Linear) and (t.through or t.under):
            block = (*t.through, *t.under)[0]
            return f"it acts on {t.block} beside {block}: its tangent fields are not gradients"
    for moved_block, reads in _dependent(gen):
        for block in reads:
            if block not in fixed:
                return (
                    f"what it adds to {moved_block} depends on {block}: its tangent fields are not "
                    "gradients"
                )
    return None


def _dependent(gen: Generator) -> list[tuple[str, list[str]]]:
    """Blocks that gain what depends on other blocks, and these."""
    out = [
        (c.bias, [*([c.weight] if c.weight else []), *(h.block for h in c.gains)])
        for c in gen.carries
    ]
    if isinstance(gen, Shift):
        out.append((gen.target, [h.block for h in gen.gains]))
    return out


def _gradient_part(gen: Generator, q: jax.Array) -> jax.Array:
    """The directions whose tangent field is a gradient: symmetric matrices."""
    if not isinstance(gen, Linear):
        return q
    return q[..., 0] if gen.pairs else (q + jnp.swapaxes(q, -1, -2)) / 2


def _inexact(x: Any) -> jax.Array:
    """At least in single precision: sums of squares are taken."""
    x = jnp.asarray(x)
    return x.astype(wider(x.dtype, jnp.float32))
