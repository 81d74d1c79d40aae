"""Minibatch optimal transport: the sources of a batch go where the way is shortest in all.

Sources: A. Tong et al., "Improving and generalizing flow-based generative models with minibatch optimal
transport", TMLR 2024; A. Pooladian et al., "Multisample flow matching", ICML 2023. The assignment is exact,
and solved within the training step.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...understanding.matching import linear_assignment
from .cost import in_groups, inner_products, take


class MinibatchTransport(eqx.Module):
    """Sources are exchanged so that the sum of squared distances is smallest.

    Attributes:
        size: how many are assigned at a time: a batch is cut into pieces of this size (by default it is
            one piece). The work grows with its cube.

    Example:
        >>> sources, targets = jnp.array([[0.0], [10.0]]), jnp.array([[9.0], [1.0]])
        >>> MinibatchTransport()(sources, targets, key=jax.random.key(0))[0].tolist()
        [[10.0], [0.0]]
    """

    size: int | None = eqx.field(static=True, default=None)

    def __call__(self, sources: Any, targets: Any, *, key: jax.Array) -> tuple[Any, Any]:
        """See the class; targets stay in their places.

        Raises:
            ValueError: pieces of this size do not make up the batch.
        """
        return in_groups(_paired, self.size, sources, targets), targets


def _paired(sources: Any, targets: Any) -> Any:
    gains = jnp.nan_to_num(inner_products(targets, sources))
    return take(sources, linear_assignment(gains, maximise=True))
