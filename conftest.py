"""Settings of every test: four CPU devices, float64, exact products, fixed seeds, no x64 in docs.

They are set before jax touches a device, and hold for `tests/` and for the doctests of `wsljax/`
alike, which way ever pytest is called.
"""

import random

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")

# The same examples in every run and on every machine.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Randomness goes by explicit keys; what escapes that rule is at least the same each time."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def settings_of_a_user(request):
    """A doctest shows what a user sees, who has float32; no test leaves a setting changed."""
    before = jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion
    if isinstance(request.node, pytest.DoctestItem):
        with jax.enable_x64(False):
            yield
    else:
        yield
    assert before == (jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
