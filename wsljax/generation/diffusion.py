"""Diffusion: networks drawn by taking noise out of noise."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .denoising import DenoisingGenerator
from .generator import Batch
from .guidance import TaskGradient
from .processes.path import Estimate, Path, VarianceExploding
from .processes.targets import Preconditioned, Target, as_target
from .processes.times import LogNormalTimes, StepTimes, Times, UniformTimes
from .processes.trees import combine, normal_like, squared_error
from .processes.variance_preserving import VariancePreserving
from .processes.weights import PlainWeight, Weight
from .samplers.ancestral import DDIM
from .samplers.field import Field
from .samplers.ode import Heun
from .samplers.sampler import Sampler
from .spaces.space import Space, checked


class Diffusion(DenoisingGenerator):
    """A denoiser of networks in a space, trained on noisy networks.

    Attributes: those of `DenoisingGenerator`, and
        path: how networks turn into noise.
        target: what the denoiser is trained to say.
        times: at which times.
        weight: of the loss at each of them.

    References: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020; Karras et al., "Elucidating the
    design space of diffusion-based generative models", 2022.

    Example:
        >>> from wsljax.generation.spaces import IdentitySpace
        >>> net = lambda x, level, told, beside: {"w": 0 * x["w"]}  # says that all networks are 0
        >>> model = Diffusion(net, IdentitySpace({"w": jnp.zeros(3)}), target="data")
        >>> drawn = model.sample(jax.random.key(0), 2, sampler=DDIM(5))
        >>> drawn["w"].shape, float(jnp.abs(drawn["w"]).max())
        ((2, 3), 0.0)
    """

    net: Any
    space: Space
    path: Path
    target: Target
    times: Times
    weight: Weight
    conditioner: Any
    sampler: Sampler
    compute_dtype: Any = eqx.field(static=True)

    def __init__(
        self,
        net: Any,
        space: Space,
        *,
        path: Path | None = None,
        target: str | Target = "edm",
        times: Times | None = None,
        weight: Weight | None = None,
        conditioner: Any = None,
        sampler: Sampler | None = None,
        compute_dtype: Any = None,
    ):
        """Put the parts together.

        Args:
            net, space, conditioner, compute_dtype: see the class.
            path: by default that of EDM for the target `"edm"`, that of DDPM for all others.
            target: a target, or its name: "data", "noise", "v", "velocity" or "edm".
            times: by default log-normal on the path of EDM, all steps on that of DDPM, else uniform.
            weight: by default the plain error of the target.
            sampler: by default Heun with 32 steps on the path of EDM, else DDIM with at most 100.
        """
        self.net, self.space, self.conditioner = net, checked(space), conditioner
        self.target = as_target(target)
        if path is None:
            edm = isinstance(self.target, Preconditioned)
            path = VarianceExploding() if edm else VariancePreserving.linear()
        self.path = path
        if times is None:
            times = UniformTimes()
            if isinstance(path, VarianceExploding):
                times = LogNormalTimes()
            elif isinstance(path, VariancePreserving):
                times = StepTimes(path.steps)
        if sampler is None:
            sampler = Heun(32) if isinstance(path, VarianceExploding) else DDIM(100)
            if isinstance(path, VariancePreserving):
                sampler = DDIM(min(100, path.steps))
        self.times, self.sampler = times, sampler
        self.weight = PlainWeight() if weight is None else weight
        self.compute_dtype = compute_dtype

    def loss(self, batch: Batch, *, key: jax.Array) -> jax.Array:
        """The mean over a prepared batch, each network at its own time with its own noise."""
        keys = jax.random.split(key, jax.tree.leaves(batch.params)[0].shape[0])
        return jnp.mean(jax.vmap(self._loss_of_one)(batch.params, batch.condition, keys))

    def _loss_of_one(self, x: Any, raw: Any, key: jax.Array) -> jax.Array:
        time_key, noise_key, told_key = jax.random.split(key, 3)
        mask = self.space.mask
        noise = normal_like(noise_key, x, mask)
        x = jax.tree.map(lambda a, b: a.astype(b.dtype), x, noise)
        t = self.times(self.path, key=time_key)
        noisy = self.path.at(x, noise, t)
        told = self.tell(raw, key=told_key) if raw is not None else self.tell(None)
        shown = self.target.inputs(self.path, noisy, t)
        output = self.say(shown, self.path.level(t), *told)
        goal = self.target.goal(self.path, x, noise, t)
        return squared_error(output, goal, self.weight(self.path, self.target, t), mask)

    def start(self, key: jax.Array) -> Any:
        noise = normal_like(key, self.space.like, self.space.mask)
        return combine(self.path.noise(1.0), noise)

    def denoise(self, x: Any, t: Any, condition: Any = None) -> Estimate:
        """The expected network and noise of one noisy `x` at time `t`."""
        return self._estimate(self._speaker(condition, None), x, t)

    def _estimate(self, speak: Any, x: Any, t: Any) -> Estimate:
        return estimate(self.path, self.target, speak, x, t)

    def field(self, speak: Any, task: TaskGradient | None) -> Field:
        found = lambda x, t: self._estimate(speak, x, t)  # noqa: E731
        if task is not None:
            found = task.guided(found, self.space.decode, self.path)
        return Field(self.path, found, mask=self.space.mask)


def estimate(path: Path, target: Target, speak: Any, x: Any, t: Any) -> Estimate:
    """Ask a denoiser, `speak(inputs, level, t)`, at the nearest time at which its answer can be used."""
    t = jnp.asarray(t)
    t = jnp.maximum(t, path.smallest) if target.breaks_at_data else t
    t = jnp.minimum(t, path.greatest) if target.breaks_at_noise else t
    output = speak(target.inputs(path, x, t), path.level(t), t)
    return target.estimate(path, output, x, t)
