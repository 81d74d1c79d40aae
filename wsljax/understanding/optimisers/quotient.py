"""Steps in the quotient: updates without their component along the orbit of the group.

The continuous generators of a spec move weights ``p`` along ``xi_v(p) = d/de act(exp(e v), p)``, for ``v``
in the Lie algebra. A direction of this form changes no output, to first order. The steps that do change
the function are the horizontal ones, orthogonal to the orbit; this is the picture of optimisation on a
quotient manifold (P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization Algorithms on Matrix Manifolds",
2008, section 3.6; for the symmetries of networks, B. Zhao et al., "Symmetries, flat minima, and the
conserved quantities of gradient flow", ICLR 2023).

With the linear map ``X v = xi_v(p)`` and a diagonal metric ``M`` the component removed from ``u`` is
``X (X^T M X)^+ X^T M u``: a least-squares problem over the whole Lie algebra, solved by conjugate
gradients from Jacobian products alone, all generators at once. ``X^T M X`` may be singular (generators that
share directions, or leave ``p`` where it is): conjugate gradients from zero give a solution still.

What it can do: the gradient of the loss is orthogonal to orbits already (in the Euclidean metric), so plain
gradient steps are unchanged. Momentum, adaptive steps, weight decay and noise do have components along the
orbit, and lose them. With :func:`balanced_metric`, which moves with the scaling group, projection and
descent commute with rescaling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from wsljax.symmetry import Spec

from .directions import lengths
from .scaling import log_factor, scalings, used_blocks, work_dtype
from .shortest import solve

Metric = Any | Callable[[Any], Any] | None


class ProjectionResult(NamedTuple):
    """Attributes:
    horizontal: what is left of the update, in its dtypes.
    direction: the element of the Lie algebra that was taken out.
    """

    horizontal: Any
    direction: dict[str, jax.Array]


def project_off_orbit(
    updates: Any,
    params: Any,
    spec: Spec,
    *,
    kinds: Sequence[str] | None = None,
    metric: Metric = None,
    steps: int = 100,
    tol: float | None = None,
) -> ProjectionResult:
    """An update without its component along the orbit of ``params``.

    Args:
        updates: tree like ``params``.
        params: weights.
        spec: with continuous generators.
        kinds: of the generators to use, as in ``("scale", "linear")``; by default all.
        metric: tree of positive weights of the entries, like ``params``, or a function that makes one of
            the params; by default Euclidean.
        steps: of conjugate gradients, at most.
        tol: relative residual at which these stop; by default 10 roundings.

    Raises:
        ValueError: for unknown kinds, trees that do not match, or fewer than one step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.array([[2.0, 1.0], [1.0, 1.0]]), "b": jnp.array([[1.0], [3.0]])}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> along = {"a": p["a"], "b": jnp.array([[-1.0], [-3.0]])}
        >>> left = project_off_orbit(along, p, spec).horizontal
        >>> bool(jnp.max(jnp.abs(left["a"])) < 1e-5)
        True
    """
    if steps < 1:
        raise ValueError(f"`steps` must be positive, got {steps}")
    spec.flatten(updates)
    p = jax.tree.map(lambda x: jnp.asarray(x).astype(work_dtype(x)), params)
    u = jax.tree.map(lambda x, w: jnp.asarray(x).astype(w.dtype), updates, p)
    dtype = jnp.result_type(*jax.tree.leaves(p))
    zero = {n: v.astype(dtype) for n, v in spec.algebra(kinds).items()}
    zero = {n: v for n, v in zero.items() if v.size}
    if not zero:
        return ProjectionResult(updates, {})
    m = metric(params) if callable(metric) else metric
    if m is None:
        m = jax.tree.map(jnp.ones_like, p)
    m = jax.tree.map(lambda x, w: jnp.asarray(x).astype(w.dtype), m, p)

    def moved(v):
        return spec.act(spec.exp(v), p)

    _, push = jax.linearize(moved, zero)
    pull = jax.linear_transpose(push, zero)
    weigh = lambda t: jax.tree.map(jnp.multiply, m, t)  # noqa: E731
    # columns of very different lengths (unbalanced networks) are brought to length one
    size = lengths(spec, p, m, zero)
    scale = jax.tree.map(lambda s: jnp.where(s > 0, 1 / jnp.sqrt(jnp.where(s > 0, s, 1)), 0), size)
    field = lambda v: push(jax.tree.map(jnp.multiply, scale, v))  # noqa: E731
    back = lambda t: jax.tree.map(jnp.multiply, scale, pull(t)[0])  # noqa: E731
    tol = 10 * float(jnp.finfo(dtype).eps) if tol is None else tol
    v, _ = cg(lambda v: back(weigh(field(v))), back(weigh(u)), tol=tol, maxiter=steps)
    left = jax.tree.map(lambda x, t, given: (x - t).astype(given.dtype), u, field(v), updates)
    return ProjectionResult(left, jax.tree.map(jnp.multiply, scale, v))


def project_quotient(
    spec: Spec,
    *,
    kinds: Sequence[str] | None = None,
    metric: Metric = None,
    steps: int = 100,
    tol: float | None = None,
) -> optax.GradientTransformation:
    """:func:`project_off_orbit` as a transform; for the end of a chain.

    Raises:
        ValueError: in the update, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> optimiser = optax.chain(optax.adam(0.1), project_quotient(spec))
        >>> updates, _ = optimiser.update(p, optimiser.init(p), p)
        >>> updates["a"].shape
        (2, 3)
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "`project_quotient` needs the weights: call update(updates, state, params)"
            )
        done = project_off_orbit(
            updates, params, spec, kinds=kinds, metric=metric, steps=steps, tol=tol
        )
        return done.horizontal, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def balanced_metric(params: Any, spec: Spec, steps: int = 100) -> Any:
    """A diagonal metric that moves with the scaling group: that of the balanced network.

    ``M_e = (b_e / w_e) ** 2``, where ``b`` are the weights after :func:`balance` (and with length one
    where nothing goes out): the length of a step is that of the same step in the balanced network. So
    ``u = -lr M^-1 g`` is gradient descent as a balanced network would make it, in any scaling.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.array([[4.0, 4.0], [0.0, 3.0]]), "b": jnp.array([[1.0], [5.0]])}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> m = balanced_metric(p, spec)
        >>> print(m["a"][0], m["b"][0])
        [0.25 1.  ] [4.]
    """
    generators = scalings(spec)
    blocks = spec.blocks(params)
    out = {n: jnp.ones(x.shape, work_dtype(x)) for n, x in blocks.items()}
    if generators:
        used = used_blocks(spec, params, generators)
        t, _, _ = solve(generators, used, 2.0, anchored=True, steps=steps)
        for n, x in used.items():
            out[n] = out[n] * jnp.exp(2 * log_factor(generators, t, n, x))
    return spec.unblocks(out, like=params)


def scale_by_metric(metric: Callable[[Any], Any]) -> optax.GradientTransformation:
    """Updates divided by a diagonal metric of the weights: a gradient becomes steepest descent in it.

    Example:
        >>> import jax.numpy as jnp
        >>> transform = scale_by_metric(lambda p: p**2)
        >>> updates, _ = transform.update(jnp.ones(1), transform.init(jnp.ones(1)), jnp.full(1, 2.0))
        >>> print(updates)
        [0.25]
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "`scale_by_metric` needs the weights: call update(updates, state, params)"
            )
        m = metric(params)
        return jax.tree.map(lambda u, k: (u / k).astype(u.dtype), updates, m), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
