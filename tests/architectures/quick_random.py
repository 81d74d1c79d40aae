"""Random keys whose numbers jax compiles at once.

Every distinct shape that jax draws costs a compilation of its generator, which for the initialisation
of hundreds of small networks takes longer than everything that is done with them. Here a number is a
hash of the key and of its position, with no loop in it. Good enough for generic weights, for no more.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

WORD = np.uint32


def _mix(x):
    """A bijection of 32-bit words in which each bit of the input matters to each of the output."""
    x = (x ^ (x >> 16)) * WORD(0x7FEB352D)
    x = (x ^ (x >> 15)) * WORD(0x846CA68B)
    return x ^ (x >> 16)


def _words(data, shape, stream: int):
    count = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _mix(_mix(count * WORD(0x9E3779B9) + data[0] + WORD(stream)) + data[1])


def _seed(seed):
    word = jnp.asarray(seed).astype(jnp.uint32)
    return jnp.stack([_mix(word + WORD(1)), _mix(word + WORD(2))])


def _split(data, shape):
    return _words(data, (*shape, 2), 3)


def _fold_in(data, number):
    number = jnp.asarray(number).astype(jnp.uint32)
    return jnp.stack(
        [_mix(data[0] + _mix(number + WORD(4))), _mix(data[1] + _mix(number + WORD(5)))]
    )


def _random_bits(data, width: int, shape):
    words = _words(data, shape, 6)
    if width == 64:
        return words.astype(jnp.uint64) << np.uint64(32) | _words(data, shape, 7).astype(jnp.uint64)
    return words.astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[width])


HASH = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="hash",
    tag="hash",
)


def key(seed: int) -> jax.Array:
    """As ``jax.random.key``; everything in ``jax.random`` takes it."""
    return jax.random.key(seed, impl=HASH)
