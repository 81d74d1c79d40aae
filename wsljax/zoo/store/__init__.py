"""Populations on disk: shards of stacked weights in safetensors files, and a JSON index."""

from wsljax.zoo.store.opening import open
from wsljax.zoo.store.source import ZooSource
from wsljax.zoo.store.stored import StoredZoo
from wsljax.zoo.store.tensor_file import DamagedFile
from wsljax.zoo.store.writer import SHARD_BYTES, Writer, save

__all__ = ["SHARD_BYTES", "DamagedFile", "StoredZoo", "Writer", "ZooSource", "open", "save"]
