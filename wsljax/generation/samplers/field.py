"""What a sampler sees of a generator: at each time an estimate, or a velocity, of one noisy network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from ..processes.path import Estimate, Path
from ..processes.trees import normal_like


@dataclass(frozen=True)
class Field:
    """A denoiser and its path; lives within one traced program.

    Attributes:
        path: the path that is run back.
        estimate: `estimate(x, t)`, network and noise; None where the path is not Gaussian.
        flow: `flow(x, t)`, the derivative of `x` by the clock; by default that of the estimate.
        project: `project(x)`, back to the manifold that a flow stays on; None: nothing to do.
        mask: which numbers are not padding, or None.
        draw: `draw(key, x)`, fresh noise like that of the path; by default standard normal.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax.generation.processes import Straight
        >>> field = Field(Straight(), lambda x, t: Estimate(0 * x, x / t))  # all networks are 0
        >>> field.velocity(jnp.array([2.0]), jnp.array(0.5)).tolist()
        [4.0]
    """

    path: Path
    estimate: Callable[[Any, Any], Estimate] | None
    flow: Callable[[Any, Any], Any] | None = None
    project: Callable[[Any], Any] | None = None
    mask: Any = None
    draw: Callable[[jax.Array, Any], Any] | None = None

    def velocity(self, x: Any, clock: Any) -> Any:
        """The derivative of `x` by the clock."""
        t = self.path.from_clock(clock)
        if self.flow is not None:
            return self.flow(x, t)
        return self.path.velocity(self.estimates(x, t), t)

    def estimates(self, x: Any, t: Any) -> Estimate:
        """Network and noise.

        Raises:
            ValueError: this is a flow on a manifold, which has none.
        """
        if self.estimate is None:
            raise ValueError(
                "this sampler adds noise, which has no meaning on the manifold of this flow; use "
                "`Euler`, `Heun` without churn, `RungeKutta4` or `Adaptive`."
            )
        return self.estimate(x, t)

    def settle(self, x: Any) -> Any:
        """`x` on its manifold."""
        return x if self.project is None else self.project(x)

    def noise(self, x: Any, key: jax.Array) -> Any:
        """Fresh noise like `x`, none in the padding."""
        return normal_like(key, x, self.mask) if self.draw is None else self.draw(key, x)
