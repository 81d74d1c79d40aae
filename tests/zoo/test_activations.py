"""Activations by code are the activations by name, also when the code is a traced array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax.zoo import ACTIVATIONS, activate

NAMES = tuple(ACTIVATIONS)


def test_codes_choose_under_vmap_and_grad():
    x = jnp.linspace(-2.0, 2.0, 9)
    codes = jnp.arange(len(NAMES))
    found = jax.vmap(lambda code: activate(code, x, NAMES))(codes)
    slopes = jax.vmap(lambda code: jax.vmap(jax.grad(lambda v: activate(code, v, NAMES)))(x))(codes)
    for code, name in enumerate(NAMES):
        np.testing.assert_allclose(found[code], ACTIVATIONS[name](x), rtol=1e-12)
        np.testing.assert_allclose(activate(code, x, NAMES), ACTIVATIONS[name](x), rtol=1e-12)
        expected = jax.vmap(jax.grad(ACTIVATIONS[name]))(x)
        np.testing.assert_allclose(slopes[code], expected, rtol=1e-12)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"unknown activation \['swish2'\]"):
        activate(0, jnp.ones(2), ("relu", "swish2"))
