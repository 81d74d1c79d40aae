"""Recurrent diffusion: networks drawn token by token, each by diffusion given all tokens before it.

A recurrent network reads the tokens of a network in their order; its state says what is known of the tokens so
far, and a small denoiser that is told the state takes the noise out of the next one. By the chain rule that is a
distribution over whole networks: tokens depend on each other through what was drawn, not only through a
condition that all of them share.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..representation.parts.layers import draw_layers
from ..representation.parts.norm import standardise
from .denoisers.levels import Linear
from .denoisers.token_transformer import Positions
from .denoising import DenoisingGenerator
from .diffusion import estimate
from .generator import Batch, only
from .guidance import TaskGradient, classifier_free
from .processes.path import Path
from .processes.targets import Target, as_target
from .processes.times import StepTimes, Times, UniformTimes
from .processes.trees import combine, masked, normal_like
from .processes.variance_preserving import VariancePreserving
from .processes.weights import PlainWeight, Weight
from .samplers.ancestral import DDIM
from .samplers.field import Field
from .samplers.sampler import Sampler
from .spaces.space import Space, checked


class GatedRecurrence(eqx.Module):
    """A residual layer on sequences: ``h_k = a_k h_(k-1) + (1 - a_k) b_k``, then a dense block.

    Gates ``a`` and values ``b`` are functions of what comes in alone, so all states are found at once, in
    logarithmically many steps. Reference: Feng et al., "Were RNNs all we needed?", 2024 (minGRU).

    Example:
        >>> layer = GatedRecurrence(4, key=jax.random.key(0))
        >>> layer(jnp.ones((6, 4))).shape, layer.step(jnp.zeros(4), jnp.ones(4))[1].shape
        ((6, 4), (4,))
    """

    gate: Linear
    value: Linear
    out: Linear
    up: Linear
    down: Linear

    def __init__(self, channels: int, *, key: jax.Array):
        keys = jax.random.split(key, 5)
        self.gate, self.value, self.out = (Linear(channels, channels, key=k) for k in keys[:3])
        self.up = Linear(channels, 2 * channels, key=keys[3])
        self.down = Linear(2 * channels, channels, key=keys[4])

    def __call__(self, x: jax.Array) -> jax.Array:
        """``(tokens, channels)`` to as many, from a state of zeros."""
        kept, new = self._gates(x)

        def join(first: Any, then: Any) -> Any:
            return then[0] * first[0], then[0] * first[1] + then[1]

        _, states = jax.lax.associative_scan(join, (kept, new))
        return self._rest(x, states)

    def step(self, state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The new state and what comes out, of one token ``(channels,)``."""
        kept, new = self._gates(x)
        state = kept * state + new
        return state, self._rest(x, state)

    def _gates(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = standardise(x)
        kept = jax.nn.sigmoid(self.gate(y))
        return kept, (1 - kept) * self.value(y)

    def _rest(self, x: jax.Array, state: jax.Array) -> jax.Array:
        x = x + self.out(state)
        return x + self.down(jax.nn.gelu(self.up(standardise(x))))


class Memory(eqx.Module):
    """What is known before each token: a recurrent network over the tokens that come before.

    Attributes:
        inward: of a token; the first follows on zeros.
        told: of the condition; None where there is none.
        positions: of the token that is next.
        layers: all recurrences in one.
    """

    inward: Linear
    told: Linear | None
    positions: Positions
    layers: GatedRecurrence
    depth: int = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        positions: Any,
        told: int | None = None,
    ):
        """Draw one.

        Args:
            width: of a token.
            channels, layers: of the recurrent network.
            key: of the initial weights.
            positions: of the tokens, ``(tokens, 3)``, ``space.tokeniser.positions``.
            told: how many numbers the condition has; None where there is none.
        """
        keys = jax.random.split(key, 4)
        self.inward = Linear(width, channels, key=keys[0])
        self.told = None if told is None else Linear(told, channels, key=keys[1])
        self.positions = Positions(positions, channels, key=keys[2])
        self.layers = draw_layers(lambda key: GatedRecurrence(channels, key=key), layers, keys[3])
        self.depth = layers

    @property
    def channels(self) -> int:
        """Of a state."""
        return self.inward.weight.shape[1]

    def places(self, told: jax.Array | None, dtype: Any) -> jax.Array:
        """What each token is told beside those before it, ``(tokens, channels)``."""
        places = self.positions(dtype)
        return places if self.told is None or told is None else places + self.told(told)

    def __call__(self, tokens: jax.Array, told: jax.Array | None = None) -> jax.Array:
        """``(tokens, width)`` to what is known before each of them, ``(tokens, channels)``."""
        before = jnp.concatenate([jnp.zeros_like(tokens[:1]), tokens[:-1]])
        x = self.inward(before) + self.places(told, tokens.dtype)
        return jax.lax.scan(lambda x, layer: (layer(x), None), x, self.layers)[0]

    def step(
        self, states: jax.Array, before: jax.Array, place: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The same for one token: ``states`` is ``(layers, channels)``, ``place`` one row of :meth:`places`."""

        def one(x: jax.Array, layer: Any) -> tuple[jax.Array, jax.Array]:
            state, x = layer[0].step(layer[1], x)
            return x, state

        x, states = jax.lax.scan(one, self.inward(before) + place, (self.layers, states))
        return states, x


class RecurrentDiffusion(DenoisingGenerator):
    """A recurrent network over tokens, and a denoiser of one token that is told its state.

    In training every token has the true ones before it; in sampling those that were drawn.

    Attributes: those of ``DenoisingGenerator``, where ``net`` denoises one token ``(width,)`` and is told
        ``memory.channels`` numbers, and
        memory: what is known before each token.
        path, target, times, weight: of the diffusion of one token.

    References: Li et al., "Autoregressive image generation without vector quantization", 2024 (a diffusion
    loss per token, given all tokens before).

    Example: see ``wsljax.generation.families.rpg``.
    """

    net: Any
    memory: Memory
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
        memory: Memory,
        space: Space,
        *,
        path: Path | None = None,
        target: str | Target = "noise",
        times: Times | None = None,
        weight: Weight | None = None,
        conditioner: Any = None,
        sampler: Sampler | None = None,
    ):
        """Put the parts together; by default the path of DDPM, and DDIM with 50 steps a token.

        Raises:
            ValueError: a space without tokens, or a condition with networks beside.
        """
        if len(getattr(checked(space).like, "shape", ())) != 2:
            raise ValueError("recurrent diffusion is on tokens `(tokens, width)`: see `TokenSpace`")
        if conditioner is not None and conditioner.beside:
            raise ValueError("networks beside cannot be told token by token; give them an encoder")
        self.net, self.memory, self.space = net, memory, space
        self.path = VariancePreserving.linear() if path is None else path
        self.target = as_target(target)
        if times is None:
            known = self.path
            stepped = isinstance(known, VariancePreserving)
            times = StepTimes(known.steps) if stepped else UniformTimes()
        self.times = times
        self.weight = PlainWeight() if weight is None else weight
        self.conditioner, self.compute_dtype = conditioner, None
        self.sampler = DDIM(50) if sampler is None else sampler

    def trainable(self) -> Any:
        """The denoiser, the recurrent network and the conditioner."""
        return only(self, "net", "memory", "conditioner")

    def loss(self, batch: Batch, *, key: jax.Array) -> jax.Array:
        """The mean over a prepared batch; each token of each network has its own time and noise."""
        keys = jax.random.split(key, len(batch.params))
        return jnp.mean(jax.vmap(self._loss_of_one)(batch.params, batch.condition, keys))

    def _loss_of_one(self, x: jax.Array, raw: Any, key: jax.Array) -> jax.Array:
        told_key, key = jax.random.split(key)
        told = self.tell(raw, key=told_key)[0] if raw is not None else self.tell(None)[0]
        x = masked(x, self.space.mask)
        known = self.memory(x, told)

        def one(token: jax.Array, state: jax.Array, key: jax.Array) -> jax.Array:
            time_key, noise_key = jax.random.split(key)
            t = self.times(self.path, key=time_key)
            noise = normal_like(noise_key, token)
            noisy = self.path.at(token, noise, t)
            shown = self.target.inputs(self.path, noisy, t)
            off = self.net(shown, self.path.level(t), state) - self.target.goal(
                self.path, token, noise, t
            )
            return self.weight(self.path, self.target, t) * jnp.square(off)

        errors = masked(jax.vmap(one)(x, known, jax.random.split(key, len(x))), self.space.mask)
        count = x.size if self.space.mask is None else self.space.mask.sum()
        return jnp.sum(errors) / count

    def draw(
        self,
        key: jax.Array,
        *,
        condition: Any = None,
        guidance: Any = None,
        sampler: Sampler | None = None,
        task: TaskGradient | None = None,
    ) -> Any:
        """One network, token after token; see ``DenoisingGenerator.draw``.

        Raises:
            ValueError: a ``task``, whose loss needs all tokens while the first is drawn.
        """
        if task is not None:
            raise ValueError("a network that is drawn token by token has no loss on the way")
        if guidance is not None and self.conditioner is None:
            raise ValueError("`guidance` needs a condition; this generator knows none.")
        like = self.space.like
        told = [self.tell(condition)[0]]
        if guidance is not None and condition is not None:
            told.append(self.tell(condition, null=True)[0])
        places = jnp.stack([self.memory.places(one, like.dtype) for one in told], axis=1)
        mask = jnp.ones(like.shape, like.dtype) if self.space.mask is None else self.space.mask
        sampler = self.sampler if sampler is None else sampler

        def one(carry: Any, row: Any) -> Any:
            states, before = carry
            place, kept, number = row
            states, known = jax.vmap(self.memory.step, (0, None, 0))(states, before, place)
            token_key = jax.random.fold_in(key, number)
            token = self._token(token_key, known, kept, guidance, sampler)
            return (states, token), token

        states = jnp.zeros((len(told), self.memory.depth, self.memory.channels), like.dtype)
        start = states, jnp.zeros(like.shape[1:], like.dtype)
        rows = places, jnp.asarray(mask, like.dtype), jnp.arange(like.shape[0])
        return self.space.decode(jax.lax.scan(one, start, rows)[1])

    def _token(
        self, key: jax.Array, known: jax.Array, kept: jax.Array, guidance: Any, sampler: Sampler
    ) -> jax.Array:
        """One token, given the states (with and without the condition) before it."""
        start_key, key = jax.random.split(key)

        def speak(x: jax.Array, level: Any, t: Any) -> jax.Array:
            answers = jax.vmap(lambda state: self.net(x, level, state))(known)
            if len(known) == 1:
                return answers[0] * kept
            scale = guidance(t) if callable(guidance) else guidance
            return classifier_free(answers[0], answers[1], scale) * kept

        field = Field(
            self.path,
            lambda x, t: estimate(self.path, self.target, speak, x, t),
            mask=kept,
        )
        noise = normal_like(start_key, kept, kept)
        return sampler(field, combine(self.path.noise(1.0), noise), key=key)
