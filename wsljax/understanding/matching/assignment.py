"""Linear assignment: to each row of a matrix a column of its own, at least cost in all.

On hosts it is SciPy's solver (shortest augmenting paths: R. Jonker, A. Volgenant, Computing 38, 1987, in the
form of D. F. Crouse, IEEE Trans. Aerosp. Electron. Syst. 52, 2016). On accelerators, and inside of ``jit`` on
any device, it is :func:`~.device_assignment.assign_on_device`: no program has to call back to the host.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import is_tracer

from .device_assignment import assign_on_device

BACKENDS = ("auto", "scipy", "device")
RELAXATIONS = 200
"""Prices need not be exact, so there is no need to wait for the last of them."""


def linear_assignment(cost: Any, *, maximise: bool = False, backend: str = "auto") -> jax.Array:
    """The column of each row in an assignment of least total cost; exact, up to rounding.

    Works under ``jit`` and ``vmap``; gradients do not pass.

    Args:
        cost: ``(..., rows, columns)``, no more rows than columns; finite.
        maximise: find the assignment of largest total instead.
        backend: ``"scipy"`` on the host, for values only; ``"device"`` as a program where the array is;
            ``"auto"``: SciPy for values if the default device is a CPU.

    Returns:
        ``(..., rows)`` integers: ``cost[..., i, out[..., i]]`` are the chosen entries.

    Raises:
        ValueError: for fewer than two axes, more rows than columns, an unknown backend, tracers with
            ``"scipy"``, or (for values) entries that are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> cost = jnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> linear_assignment(cost).tolist()
        [1, 0, 2]
        >>> linear_assignment(jnp.stack([cost, -cost]), maximise=True).tolist()
        [[0, 2, 1], [1, 0, 2]]
    """
    if backend not in BACKENDS:
        raise ValueError(f"`backend` must be one of {BACKENDS}, got {backend!r}")
    shape = np.shape(cost)
    if len(shape) < 2 or shape[-2] > shape[-1]:
        raise ValueError(
            f"`cost` has shape {shape}; expected (..., rows, columns) with no more rows than columns: "
            "transpose it, or pad with columns that cost too much"
        )
    traced = is_tracer(cost)
    if not traced and not np.all(np.isfinite(np.asarray(cost, np.float64))):
        raise ValueError("`cost` has entries that are NaN or infinite")
    if backend == "auto":
        backend = "scipy" if jax.default_backend() == "cpu" and not traced else "device"
    if backend == "scipy":
        if traced:
            raise ValueError("`backend='scipy'` needs values: leave it out inside of jit and vmap")
        return jnp.asarray(assign_on_host(np.asarray(cost), maximise=maximise))
    cost = jax.lax.stop_gradient(jnp.asarray(cost))
    if not jnp.issubdtype(cost.dtype, jnp.floating):
        cost = cost.astype(jnp.float32)
    solve = assign_on_device
    for _ in shape[:-2]:
        solve = jax.vmap(solve)
    return solve(-cost if maximise else cost)


def assign_on_host(cost: np.ndarray, *, maximise: bool = False) -> np.ndarray:
    """As :func:`linear_assignment`, for numpy arrays and by SciPy."""
    from scipy.optimize import linear_sum_assignment

    out = np.empty(cost.shape[:-1], np.int32)
    for index in np.ndindex(cost.shape[:-2]):
        out[index] = linear_sum_assignment(cost[index], maximize=maximise)[1]
    return out


def assign_from_prices(
    gains: np.ndarray, prices: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The assignments of largest gain, faster from the prices of columns in a similar problem.

    A price taken off a whole column changes the gain of every assignment alike. With the prices at which an
    assignment was optimal taken off, a solver finds most rows content with the column that is best for them
    alone. The new prices are the potentials of shortest paths from the assignment found (R. Bellman, Quart.
    Appl. Math. 16, 1958), by as many relaxations of all columns at once as it takes.

    Args:
        gains: ``(..., n, n)``.
        prices: ``(..., n)`` of any values, or None.

    Returns:
        The column of each row, and the new prices.
    """
    from scipy.optimize import linear_sum_assignment

    columns = np.empty(gains.shape[:-1], np.int32)
    new = np.zeros(gains.shape[:-1], gains.dtype) if prices is None else prices.copy()
    for index in np.ndindex(gains.shape[:-2]):
        gain, price = gains[index], new[index]
        offered = gain if prices is None else gain - price
        chosen = columns[index] = linear_sum_assignment(offered, maximize=True)[1]
        # no row would rather pay for another column than for its own
        envy = gain - np.take_along_axis(gain, chosen[:, None], -1)
        for _ in range(RELAXATIONS):
            higher = np.maximum(price, (envy + price[chosen, None]).max(0))
            if np.array_equal(higher, price):
                break
            price = higher
        new[index] = price - price.mean()
    return columns, new
