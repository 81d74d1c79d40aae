"""The Sinkhorn operator: any square matrix to a doubly stochastic one, with exact implicit gradients.

``sinkhorn(x) = diag(exp u) exp(x) diag(exp v)`` with rows and columns that sum to one (R. Sinkhorn 1964; G. Mena
et al., ICLR 2018). Its gradient needs none of the iterations: differentiating the two sums at the solution
gives a linear system in the two potentials (M. Eisenberger et al., CVPR 2022; used for networks by F. A. G. Peña
et al., "Re-basin via implicit Sinkhorn differentiation", CVPR 2023).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def sinkhorn(x: jax.Array, steps: int = 100) -> jax.Array:
    """The doubly stochastic matrix that is ``exp(x)`` with rows and columns rescaled.

    Args:
        x: ``(..., n, n)``, floating. Divide by a temperature: the smaller, the closer to a permutation.
        steps: rescalings of rows and of columns.

    Returns:
        ``(..., n, n)``; columns sum to one exactly, rows up to convergence.

    Example:
        >>> import jax.numpy as jnp
        >>> p = sinkhorn(jnp.array([[4.0, 1.0], [2.0, 3.0]]))
        >>> [round(float(v), 4) for v in p.sum(-1)]
        [1.0, 1.0]
    """
    rescale = lambda _, y: _normal(_normal(y, -1), -2)  # noqa: E731
    return jnp.exp(jax.lax.fori_loop(0, steps, rescale, x))


def _normal(x: jax.Array, axis: int) -> jax.Array:
    return x - logsumexp(x, axis, keepdims=True)


def _forward(x, steps):
    p = sinkhorn(x, steps)
    return p, p


def _backward(steps, p, gradient):
    """``p (g - alpha - beta)``, with potentials that keep the sums of rows and columns."""
    weighted = p * gradient
    rows, columns = weighted.sum(-1), weighted.sum(-2)
    n = p.shape[-1]
    # rows = alpha + p beta, columns = p^T alpha + beta; a constant may go from one to the other, and where p is
    # a permutation to rounding, one for each of its entries: what the shift makes of these cancels below
    shift = 1 + n * jnp.finfo(p.dtype).eps
    system = shift * jnp.eye(n, dtype=p.dtype) - p.mT @ p + 1 / n
    right = columns - (p.mT @ rows[..., None])[..., 0]
    beta = jnp.linalg.solve(system, right[..., None])[..., 0]
    alpha = rows - (p @ beta[..., None])[..., 0]
    return (p * (gradient - alpha[..., :, None] - beta[..., None, :]),)


sinkhorn.defvjp(_forward, _backward)
