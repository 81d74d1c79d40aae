"""Flow matching: networks as the end of a flow that starts at noise.

Time runs from the network (0) to noise (1), as everywhere here; papers of flow matching count the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp

from .denoising import DenoisingGenerator
from .diffusion import estimate
from .generator import Batch
from .guidance import TaskGradient
from .processes.path import Straight
from .processes.targets import DataTarget, Target, VelocityTarget, as_target
from .processes.times import Times, UniformTimes
from .processes.trees import combine, masked, normal_like, squared_error
from .processes.weights import PlainWeight, Weight
from .samplers.field import Field
from .samplers.ode import Heun
from .samplers.sampler import Sampler
from .spaces.space import Space, checked


@runtime_checkable
class Coupling(Protocol):
    """How the noise and the networks of a batch are paired.

    `sources` and `targets` are trees `(batch, ...)` of x. What is returned is of the same shapes: row `i` of
    the targets is row `i` that was given, or a network of the same function (moved by a symmetry); it is the
    sources that change places. So conditions stay with their networks. Pure and traceable, inside of `jit`.
    """

    def __call__(self, sources: Any, targets: Any, *, key: jax.Array) -> tuple[Any, Any]: ...


@runtime_checkable
class Geometry(Protocol):
    """The manifold on which a flow stays; for one network.

    `project(x)` is the nearest point of the manifold, differentiable (its derivative at a point of the
    manifold is the projection on the tangent space). `interpolate(x0, x1, t)` is the point at `t` on the
    geodesic from `x0` (t = 0) to `x1` (t = 1), and its derivative by `t`; `x0` and `x1` lie on the manifold.
    """

    def project(self, x: Any) -> Any: ...

    def interpolate(self, x0: Any, x1: Any, t: jax.Array) -> tuple[Any, Any]: ...


class NormalSource(eqx.Module):
    """Independent normal numbers of deviation `scale`: a number, or a tree of numbers like `x`.

    Example:
        >>> NormalSource(0.01)(jax.random.key(0), {"w": jnp.zeros((2, 3))})["w"].shape
        (2, 3)
    """

    scale: Any = 1.0

    def __call__(self, key: jax.Array, like: Any) -> Any:
        return combine(self.scale, normal_like(key, like))


class Flow(DenoisingGenerator):
    """A velocity field that carries noise to networks, along straight lines or geodesics in training.

    Attributes: those of `DenoisingGenerator`, and
        target: "velocity", "data" or "noise"; on a manifold "velocity" or "data".
        coupling: how noise and networks of a batch are paired; None: as they come.
        geometry: the manifold; None: flat space. Networks are projected on it.
        source: `source(key, like)`, the noise of one network.
        sigma: the deviation of noise that is added to points of the path in training, in flat space.
        times, weight: at which times it is trained, and how much each counts.

    References: Lipman et al., "Flow matching for generative modeling", 2023; Tong et al., "Improving and
    generalizing flow-based generative models with minibatch optimal transport", 2024 (couplings, sigma); Chen
    and Lipman, "Flow matching on general geometries", 2024.

    Example:
        >>> from wsljax.generation.samplers import Euler
        >>> from wsljax.generation.spaces import IdentitySpace
        >>> net = lambda x, level, told, beside: jax.tree.map(jnp.zeros_like, x)
        >>> flow = Flow(net, IdentitySpace({"w": jnp.zeros(3)}), sampler=Euler(4))
        >>> flow.sample(jax.random.key(0), 2)["w"].shape
        (2, 3)
    """

    net: Any
    space: Space
    target: Target
    coupling: Any
    geometry: Any
    source: Callable[[jax.Array, Any], Any]
    sigma: float
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
        target: str | Target = "velocity",
        coupling: Coupling | None = None,
        geometry: Geometry | None = None,
        source: Callable[[jax.Array, Any], Any] | None = None,
        sigma: float = 0.0,
        times: Times | None = None,
        weight: Weight | None = None,
        conditioner: Any = None,
        sampler: Sampler | None = None,
        compute_dtype: Any = None,
    ):
        """Put the parts together; by default uniform times and Heun with 50 steps.

        Raises:
            ValueError: a target that has no meaning on a manifold.
        """
        self.net, self.space, self.conditioner = net, checked(space), conditioner
        self.target = as_target(target)
        if geometry is not None and not isinstance(self.target, (VelocityTarget, DataTarget)):
            raise ValueError(f"on a manifold the target is 'velocity' or 'data', not {target!r}.")
        self.coupling, self.geometry, self.sigma = coupling, geometry, sigma
        self.source = NormalSource() if source is None else source
        self.times = UniformTimes() if times is None else times
        self.weight = PlainWeight() if weight is None else weight
        self.sampler = Heun(50) if sampler is None else sampler
        self.compute_dtype = compute_dtype

    @property
    def path(self) -> Straight:
        """Straight lines in time."""
        return Straight()

    def prepare(self, batch: Batch) -> Batch:
        """Networks in their space, on the manifold."""
        batch = super().prepare(batch)
        if self.geometry is None:
            return batch
        return batch._replace(params=jax.vmap(self.geometry.project)(batch.params))

    def start(self, key: jax.Array) -> Any:
        x = masked(self.source(key, self.space.like), self.space.mask)
        return x if self.geometry is None else self.geometry.project(x)

    def loss(self, batch: Batch, *, key: jax.Array) -> jax.Array:
        """The mean over a prepared batch, once sources and networks have been paired."""
        source_key, coupling_key, key = jax.random.split(key, 3)
        count = jax.tree.leaves(batch.params)[0].shape[0]
        sources = jax.vmap(self.start)(jax.random.split(source_key, count))
        data = jax.tree.map(lambda a, b: a.astype(b.dtype), batch.params, sources)
        if self.coupling is not None:
            sources, data = self.coupling(sources, data, key=coupling_key)
        keys = jax.random.split(key, count)
        return jnp.mean(jax.vmap(self._loss_of_one)(data, sources, batch.condition, keys))

    def _loss_of_one(self, x: Any, source: Any, raw: Any, key: jax.Array) -> jax.Array:
        time_key, noise_key, told_key = jax.random.split(key, 3)
        t = self.times(self.path, key=time_key)
        told = self.tell(raw, key=told_key) if raw is not None else self.tell(None)
        mask = self.space.mask
        weight = self.weight(self.path, self.target, t)
        if self.geometry is None:
            at = self.path.at(x, source, t)
            if self.sigma:
                at = combine(1.0, at, self.sigma, normal_like(noise_key, x, mask))
            output = self.say(self.target.inputs(self.path, at, t), self.path.level(t), *told)
            goal = self.target.goal(self.path, x, source, t)
            return squared_error(output, goal, weight, mask)
        at, velocity = self.geometry.interpolate(x, source, t)
        output = self.say(at, self.path.level(t), *told)
        if isinstance(self.target, DataTarget):
            return squared_error(output, x, weight, mask)
        return squared_error(self._tangent(at, output), velocity, weight, mask)

    def field(self, speak: Any, task: TaskGradient | None) -> Field:
        path, mask = self.path, self.space.mask
        noise = lambda key, x: masked(self.source(key, x), mask)  # noqa: E731
        if self.geometry is None:
            found = lambda x, t: estimate(path, self.target, speak, x, t)  # noqa: E731
            if task is not None:
                found = task.guided(found, self.space.decode, path)
            return Field(path, found, draw=noise)
        return Field(
            path, None, lambda x, t: self._velocity(speak, task, x, t), self.geometry.project
        )

    def _velocity(self, speak: Any, task: TaskGradient | None, x: Any, t: Any) -> Any:
        """The velocity on the manifold; guidance pushes against the gradient where the flow will end."""
        t = jnp.maximum(jnp.asarray(t), self.path.smallest)
        output = speak(x, self.path.level(t), t)
        if isinstance(self.target, DataTarget):
            _, end = self.geometry.interpolate(self.geometry.project(output), x, jnp.ones_like(t))
            velocity = combine(1 / t, end)
        else:
            velocity = self._tangent(x, output)
        if task is None:
            return velocity
        end = self.geometry.project(combine(1.0, x, -t, velocity))
        slope = task.gradient(self.space.decode, end)
        push = jax.tree.map(lambda o: task.strength(t) * o, task.open_variance(self.path, t))
        return combine(1.0, velocity, push, self._tangent(x, slope))

    def _tangent(self, x: Any, velocity: Any) -> Any:
        return jax.jvp(self.geometry.project, (x,), (velocity,))[1]
