"""Folders of safetensors: whole, in shards, damaged."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.common import same_state
from wsljax import interop

TENSORS = {
    "a": np.arange(6, dtype="float32").reshape(2, 3).T,  # not contiguous
    "b": np.ones((3,), jnp.bfloat16),
    "c": np.asarray(2.5, "float16"),
    "d": np.arange(4),
}


@pytest.mark.parametrize("size, files", [(10**9, 1), (24, 3), (1, 4)])
def test_round_trip(size, files, tmp_path):
    interop.write_safetensors({"x": np.ones(9)}, tmp_path, max_shard_bytes=1)
    interop.write_safetensors(TENSORS, tmp_path, max_shard_bytes=size)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    same_state(dict(sorted(interop.read_safetensors(tmp_path).items())), TENSORS)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_single_file(tmp_path):
    interop.write_safetensors(TENSORS, tmp_path)
    found = interop.read_safetensors(tmp_path / "model.safetensors")
    same_state(dict(sorted(found.items())), TENSORS)


def test_damaged_and_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither model.safetensors nor"):
        interop.read_safetensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="pickles only.*save_pretrained"):
        interop.read_safetensors(tmp_path)
    interop.write_safetensors(TENSORS, tmp_path, max_shard_bytes=24)
    shard = tmp_path / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="model-00002-of-00003.safetensors is damaged"):
        interop.read_safetensors(tmp_path)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00003.safetensors, named by"):
        interop.read_safetensors(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", 3])
def test_an_index_stays_in_its_folder(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="which is not a file of the folder"):
        interop.read_safetensors(tmp_path)


def test_an_index_that_contradicts_its_shards(tmp_path):
    interop.write_safetensors(TENSORS, tmp_path, max_shard_bytes=24)
    index = tmp_path / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"]["a"] = "model-00003-of-00003.safetensors"
    index.write_text(json.dumps(found))
    with pytest.raises(
        ValueError, match="lacks 'a', which model.safetensors.index.json places there"
    ):
        interop.read_safetensors(tmp_path)
    index.write_text("{")
    with pytest.raises(ValueError, match="index.json is not JSON"):
        interop.read_safetensors(tmp_path)
    index.write_text("[]")
    with pytest.raises(ValueError, match="holds list, not an object"):
        interop.read_safetensors(tmp_path)
    index.write_text("{}")
    with pytest.raises(ValueError, match="no `weight_map`"):
        interop.read_safetensors(tmp_path)
