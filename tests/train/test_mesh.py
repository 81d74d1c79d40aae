"""Meshes are of type Auto, and placing says what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from wsljax import train


def test_meshes_are_auto_and_split_the_leading_axis():
    mesh = train.make_mesh()
    assert mesh.shape == {"zoo": 4} and mesh.axis_types == (AxisType.Auto,)
    tree = train.shard({"a": jnp.arange(8.0), "act": jax.nn.relu}, mesh)
    assert tree["act"] is jax.nn.relu
    assert [shard.data.shape for shard in tree["a"].addressable_shards] == [(2,)] * 4
    copies = train.replicate(jnp.arange(3.0), mesh).addressable_shards
    assert len(copies) == 4
    for copy in copies:
        np.testing.assert_array_equal(copy.data, [0, 1, 2])


def test_no_mesh_leaves_things_alone():
    x = jnp.ones(3)
    assert train.shard(x, None) is x and train.replicate(x, None) is x


def test_errors_name_the_leaf_and_the_axis():
    mesh = train.make_mesh()
    with pytest.raises(ValueError, match=r"layer/kernel has shape \(6, 2\).*4 devices"):
        train.shard({"layer": {"kernel": jnp.ones((6, 2))}}, mesh)
    with pytest.raises(ValueError, match=r"axes \('zoo',\) but no axis 'model'"):
        train.shard(jnp.ones(4), mesh, axis="model")
