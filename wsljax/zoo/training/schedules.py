"""Learning rates that change over a network's training, chosen by number, so that the choice is data."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

#: Names of schedules; a code is an index.
SCHEDULES = ("constant", "linear", "cosine", "sqrt", "one_cycle")


def rate_factor(row: Mapping[str, jax.Array], number: jax.Array) -> jax.Array:
    """What the learning rate is multiplied by at step `number`, counted from 0.

    Args:
        row: of one network: `schedule` (a code of `SCHEDULES`; constant if missing), `warmup`
            (steps over which the rate grows linearly from 0; none if missing) and `steps`.
        number: the step.

    Schedules, with t from 0 to 1 over the steps after the warm-up: 1; 1 - t; (1 + cos(pi t)) / 2
    (Loshchilov and Hutter 2017); 1 / sqrt(1 + steps since the warm-up); and one cycle (Smith 2018),
    which grows from 1/25 to 1 by t = 0.3 and falls to 0 by cosines.

    Example:
        >>> row = {"schedule": SCHEDULES.index("cosine"), "steps": 100, "warmup": 10}
        >>> [round(float(rate_factor(row, jnp.int32(n))), 3) for n in (0, 4, 10, 55, 99)]
        [0.1, 0.5, 1.0, 0.5, 0.0]
    """
    number = number.astype(jnp.float32)
    steps = jnp.asarray(row["steps"], jnp.float32)
    warmup = jnp.asarray(row.get("warmup", 0), jnp.float32)
    since = jnp.maximum(number - warmup, 0.0)
    t = jnp.clip(since / jnp.maximum(steps - warmup, 1.0), 0.0, 1.0)
    rise = 1 / 25 + 24 / 25 * (1 - jnp.cos(jnp.pi * jnp.minimum(t / 0.3, 1.0))) / 2
    fall = (1 + jnp.cos(jnp.pi * jnp.clip((t - 0.3) / 0.7, 0.0, 1.0))) / 2
    factors = jnp.stack([
        jnp.ones_like(t), 1 - t, (1 + jnp.cos(jnp.pi * t)) / 2, 1 / jnp.sqrt(1 + since),
        jnp.where(t < 0.3, rise, fall),
    ])  # fmt: skip
    grown = jnp.minimum(1.0, (number + 1) / jnp.maximum(warmup, 1.0))
    return grown * factors[jnp.asarray(row.get("schedule", 0))]
