"""A small denoiser of any tree."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp


class Mlp(eqx.Module):
    """All weights and a few waves of the level, through two dense layers and past them."""

    layers: tuple
    skip: eqx.nn.Linear
    like: object

    def __init__(self, like, width, *, key):
        size = sum(leaf.size for leaf in jax.tree.leaves(like))
        keys = jax.random.split(key, 4)
        sizes = [size + 5, width, width, size]
        self.layers = tuple(
            eqx.nn.Linear(a, b, key=k, dtype=jnp.float32)
            for a, b, k in zip(sizes, sizes[1:], keys, strict=False)
        )
        self.skip = eqx.nn.Linear(5, size, key=keys[3], dtype=jnp.float32)
        self.like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float32), like)

    def __call__(self, x, level, told=None, beside=None):
        flat, back = jax.flatten_util.ravel_pytree(x)
        angles = level * jnp.array([1.0, 3.0], level.dtype)
        waves = jnp.concatenate([level[None], jnp.sin(angles), jnp.cos(angles)]).astype(flat.dtype)
        h = jnp.concatenate([flat, waves])
        for layer in self.layers[:-1]:
            h = jax.nn.silu(layer(h))
        return back(self.layers[-1](h) + self.skip(waves) * flat)
