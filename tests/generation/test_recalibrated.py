"""Statistics of a BatchNorm measured again after drawing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.symmetry import generator_nets as nets
from wsljax.generation import Batch, Generator
from wsljax.generation.recalibrated import Recalibrated


class Around(Generator):
    """Networks near one."""

    centre: dict

    def loss(self, batch, *, key):
        return sum(
            jnp.sum((x - y) ** 2)
            for x, y in zip(*map(jax.tree.leaves, (self.centre, batch.params)))
        )

    def draw(self, key, *, condition=None, guidance=None, **options):
        return jax.tree.map(
            lambda x: x + 0.1 * jax.random.normal(key, x.shape, x.dtype), self.centre
        )


def test_statistics_are_those_of_the_data():
    fn, params, x = nets.batch_norm(False)
    plain = Around(params)
    found = Recalibrated(plain, fn, x).sample(jax.random.key(0), 3)
    drawn = plain.sample(jax.random.key(0), 3)
    for name in ("w0", "b0", "g", "s", "w1", "b1"):
        np.testing.assert_array_equal(found[name], drawn[name])
    hidden = jax.vmap(lambda p: x @ p["w0"] + p["b0"])(drawn)
    np.testing.assert_allclose(found["mean"], hidden.mean(1), atol=1e-6)
    np.testing.assert_allclose(found["var"], hidden.var(1), atol=1e-6)
    assert float(jnp.abs(drawn["var"] - hidden.var(1)).max()) > 0.1


def test_only_the_generator_is_fitted():
    fn, params, x = nets.batch_norm(False)
    generator = Recalibrated(Around(params), fn, x)
    mask = generator.trainable()
    assert all(jax.tree.leaves(mask.generator)) and not any(jax.tree.leaves(mask.inputs))
    arrays = eqx.filter(generator, mask)
    assert len(jax.tree.leaves(arrays)) == len(params)
    batch = Batch(params)
    assert float(generator.loss(generator.prepare(batch), key=jax.random.key(0))) == 0
    with pytest.raises(ValueError, match="measured on data"):
        Recalibrated(Around(params), fn)
