"""Path-SGD: steepest descent in the geometry of paths, which rescaling does not change.

Source: B. Neyshabur, R. Salakhutdinov, N. Srebro, "Path-SGD: Path-Normalized Optimization in Deep Neural
Networks", NeurIPS 2015, section 4: ``w_e <- w_e - lr / k_e(w) dL/dw_e``, where ``k_e(w)`` is the sum, over
all paths through ``e``, of the squares of the other weights on the path. The sum over all paths of the
squared weights is the output of the network itself, with squared weights, on inputs of ones; so

    ``k = d f(p ** 2, 1) / d (p ** 2)``,

one gradient for all weights at once.

**Exact** where the activations are the identity on positive numbers (ReLU, leaky ReLU, abs, PReLU, identity)
and sums, means, products with weights and concatenations do the rest: squared weights and inputs of ones
keep everything positive. Max pooling takes the largest of the paths in place of their sum. A bias is a
weight from an input of one; ``k`` of a bias sums the ways out, and the paths that start in biases count.
**Commutes with rescaling** for any function with ``Scale`` generators without offsets or carries, of any
degree: ``(g p) ** 2 = g ** 2 p ** 2``, so ``k`` moves as a metric does. It does not know norms: in front of
a batch or layer norm ``f(p ** 2, 1)`` is no sum over paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .scaling import work_dtype


def path_metric(fn: Callable, params: Any, *inputs: Any) -> Any:
    """``k = d f(p ** 2, 1) / d (p ** 2)``, a tree like ``params``: the diagonal of the path metric.

    Args:
        fn: ``fn(params, *inputs)``; see the module for when the metric is that of the paper.
        params: weights.
        *inputs: examples, or ``ShapeDtypeStruct``s: floating inputs are replaced by ones, integer
            inputs are used as given (zeros for a ``ShapeDtypeStruct``).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.full((2, 1), 3.0), "b": jnp.full((1, 1), 2.0)}
        >>> k = path_metric(fn, p, jnp.zeros((1, 2)))
        >>> print(k["a"][:, 0], k["b"][0])
        [4. 4.] [18.]
    """
    ones = jax.tree.map(_ones, inputs)
    squared = jax.tree.map(lambda x: jnp.square(jnp.asarray(x).astype(work_dtype(x))), params)

    def total(s):
        out = jax.tree.leaves(fn(s, *ones))
        return sum(jnp.sum(x) for x in out if jnp.issubdtype(x.dtype, jnp.inexact))

    return jax.grad(total)(squared)


def scale_by_path(fn: Callable, *inputs: Any) -> optax.GradientTransformation:
    """Updates divided by :func:`path_metric`; entries that are on no path get no update.

    Raises:
        ValueError: in the update, without ``params``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.full((2, 1), 3.0), "b": jnp.full((1, 1), 2.0)}
        >>> transform = scale_by_path(fn, jnp.zeros((1, 2)))
        >>> updates, _ = transform.update(jax.tree.map(jnp.ones_like, p), transform.init(p), p)
        >>> print(updates["a"][:, 0])
        [0.25 0.25]
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "`scale_by_path` needs the weights: call update(updates, state, params)"
            )
        metric = path_metric(fn, params, *inputs)

        def divided(u, k):
            on_path = k > 0
            return jnp.where(on_path, u / jnp.where(on_path, k, 1), 0).astype(u.dtype)

        return jax.tree.map(divided, updates, metric), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def path_sgd(
    fn: Callable, *inputs: Any, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Path-SGD: :func:`scale_by_path`, then a step against it.

    Args:
        fn: ``fn(params, *inputs)``, a network of ReLU-like units.
        *inputs: examples of its inputs, or their shapes.
        learning_rate: number or schedule. ``k`` is a product over layers: it may be far from one, and
            the learning rate with it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.full((2, 1), 3.0), "b": jnp.full((1, 1), 2.0)}
        >>> optimiser = path_sgd(fn, jnp.zeros((1, 2)), learning_rate=0.1)
        >>> updates, _ = optimiser.update(jax.tree.map(jnp.ones_like, p), optimiser.init(p), p)
        >>> print(updates["a"][:, 0])
        [-0.025 -0.025]
    """
    return optax.chain(scale_by_path(fn, *inputs), optax.scale_by_learning_rate(learning_rate))


def _ones(x: Any) -> jax.Array:
    dtype = x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.ones(jnp.shape(x), dtype)
    return jnp.zeros(x.shape, dtype) if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)
