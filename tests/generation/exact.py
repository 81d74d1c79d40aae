"""Networks that are normal with mean mu and deviation s: the exact denoiser, and what follows from it."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsljax.generation.conditions.condition import Told
from wsljax.generation.processes import Estimate, VarianceExploding
from wsljax.generation.samplers import Field

MU = {
    "w": jnp.asarray(np.linspace(-1.0, 2.0, 6).reshape(2, 3)),
    "b": jnp.asarray([0.5, -0.25, 1.0]),
}


def exact_estimate(path, mu, s):
    """E[x | x_t] = mu + signal s² / (noise² + signal² s²) (x_t - signal mu), and of the noise likewise."""

    def estimate(x, t):
        signal, noise = path.signal(t), path.noise(t)
        size = noise**2 + (signal * s) ** 2
        rest = jax.tree.map(lambda a, m: (a - signal * m) / size, x, mu)
        return Estimate(
            jax.tree.map(lambda m, r: m + signal * s**2 * r, mu, rest),
            jax.tree.map(lambda r: noise * r, rest),
        )

    return estimate


def exact_field(path, mu, s):
    return Field(path, exact_estimate(path, mu, s))


def slope(steps, errors):
    """By which power of the number of steps an error falls."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


class ExactNet(eqx.Module):
    """A denoiser that says what the exact one says, whatever the target; `shift` and `scale` put it off."""

    path: object
    target: object
    mu: dict
    s: float
    shift: jax.Array
    scale: jax.Array

    def __init__(self, path, target, mu=None, s=0.5):
        self.path, self.target, self.mu, self.s = path, target, MU if mu is None else mu, s
        self.shift, self.scale = jnp.zeros(()), jnp.ones(())

    def __call__(self, x, level, told=None, beside=None):
        t = self.time(level)
        inputs = self.target.inputs(self.path, jax.tree.map(jnp.ones_like, x), t)
        x = jax.tree.map(lambda a, one: a / one, x, inputs)  # inputs are a multiple of x_t
        mu = self.mu if told is None else jax.tree.map(lambda m: m + told, self.mu)
        found = exact_estimate(self.path, mu, self.s)(x, t)
        said = self.target.goal(self.path, found.data, found.noise, t)
        return jax.tree.map(lambda a: self.scale * a + self.shift, said)

    def time(self, level):
        if isinstance(self.path, VarianceExploding):
            return self.path.time(jnp.exp(4 * level))
        return level


class Vector(eqx.Module):
    """The simplest conditioner: the raw condition is the vector, and zero stands for none."""

    def __call__(self, raw, *, key=None):
        return Told(raw)

    def null(self, raw=None):
        return Told(jnp.zeros(()))


def population(n, mu=None, s=0.5, key=None):
    """Networks that are normal."""
    mu = MU if mu is None else mu
    keys = jax.random.split(jax.random.key(11) if key is None else key, len(mu))
    return {
        name: m + s * jax.random.normal(k, (n, *m.shape), m.dtype)
        for (name, m), k in zip(mu.items(), keys)
    }
