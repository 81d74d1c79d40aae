"""What diffusion and flows share: a denoiser in a space, told of a condition, with guidance."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .generator import Batch, Generator, only
from .guidance import TaskGradient, classifier_free
from .processes.trees import common_dtype, masked
from .samplers.field import Field
from .samplers.sampler import Sampler
from .spaces.space import Space


class DenoisingGenerator(Generator):
    """A generator that takes the noise out of `x`, the network in a space.

    Attributes:
        net: `net(x, level, told, beside)`, a tree like `x`; `level` is a scalar, `told` a vector or None,
            `beside` a tuple of trees like `x` or None.
        space: what `x` is.
        conditioner: from the raw condition of one network to what the denoiser is told; see `conditions`.
        sampler: by which networks are drawn, unless `sample` is told another.
        compute_dtype: in which the denoiser computes; `x`, noise and weights keep float32.
    """

    net: eqx.AbstractVar[Any]
    space: eqx.AbstractVar[Space]
    conditioner: eqx.AbstractVar[Any]
    sampler: eqx.AbstractVar[Sampler]
    compute_dtype: eqx.AbstractVar[Any]

    def prepare(self, batch: Batch) -> Batch:
        """Networks in their space."""
        return Batch(self.space.encode_all(batch.params), batch.condition)

    def trainable(self) -> Any:
        """The denoiser and the conditioner; the space stays as it is."""
        return only(self, "net", "conditioner")

    def field(self, speak: Any, task: TaskGradient | None) -> Field:
        """What a sampler sees, given `speak(inputs, level, t)`, the answer of the denoiser."""
        raise NotImplementedError

    def start(self, key: jax.Array) -> Any:
        """Pure noise, at time 1."""
        raise NotImplementedError

    def tell(self, raw: Any, *, key: jax.Array | None = None, null: bool = False) -> Any:
        """The pair (told, beside) of one raw condition; with a key some are hidden, as in training."""
        if self.conditioner is None:
            if raw is not None:
                raise ValueError(
                    "this generator knows no condition: give it a `conditioner` "
                    "(`wsljax.generation.conditions`), or leave out `condition`."
                )
            return None, None
        hidden = null or raw is None
        told = self.conditioner.null(raw) if hidden else self.conditioner(raw, key=key)
        told = told.encoded(self.space.encode)
        return told.vector, told.beside or None

    def say(self, x: Any, level: Any, told: Any = None, beside: Any = None) -> Any:
        """What the denoiser says, in the dtypes of `x`; zero in the padding."""
        net, shown = self.net, x
        level = jnp.asarray(level, common_dtype(x))
        if self.compute_dtype is not None:
            net, shown, told, beside = _cast((net, x, told, beside), self.compute_dtype)
        output = net(shown, level, told, beside)
        if jax.tree.structure(output) != jax.tree.structure(x):
            raise ValueError(
                f"the denoiser gives a tree {jax.tree.structure(output)} for {jax.tree.structure(x)}."
            )
        output = jax.tree.map(lambda a, b: a.astype(b.dtype), output, x)
        return masked(output, self.space.mask)

    def draw(
        self,
        key: jax.Array,
        *,
        condition: Any = None,
        guidance: Any = None,
        sampler: Sampler | None = None,
        task: TaskGradient | None = None,
    ) -> Any:
        """One network.

        Args:
            key: a typed key.
            condition: a raw condition; None where there is none, or where it is to be left open.
            guidance: the scale of classifier-free guidance, or a function of time; None is 1.
            sampler: by default the generator's own.
            task: a loss of the network whose gradient guides it.
        """
        start_key, sampler_key = jax.random.split(key)
        speak = self._speaker(condition, guidance)
        sampler = self.sampler if sampler is None else sampler
        x = sampler(self.field(speak, task), self.start(start_key), key=sampler_key)
        return self.space.decode(x)

    def _speaker(self, condition: Any, guidance: Any) -> Callable[[Any, Any, Any], Any]:
        """`speak(inputs, level, t)`; with guidance the denoiser answers twice, in one call."""
        told = self.tell(condition)
        if guidance is None or condition is None:
            if guidance is not None and self.conditioner is None:
                raise ValueError("`guidance` needs a condition; this generator knows none.")
            return lambda x, level, t: self.say(x, level, *told)
        both = jax.tree.map(lambda a, b: jnp.stack([a, b]), told, self.tell(condition, null=True))

        def speak(x: Any, level: Any, t: Any) -> Any:
            answers = jax.vmap(lambda pair: self.say(x, level, *pair))(both)
            shown, null = (jax.tree.map(lambda a, i=i: a[i], answers) for i in (0, 1))
            return classifier_free(shown, null, guidance(t) if callable(guidance) else guidance)

        return speak


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)
