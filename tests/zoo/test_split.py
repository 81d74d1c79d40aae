"""Splits keep runs together and are functions of the key."""

import jax
import numpy as np
import pytest

from wsljax.zoo import split


def test_parts_are_disjoint_by_run_and_cover_all(key):
    runs = np.random.default_rng(0).integers(0, 40, 300)
    parts = split(runs, (0.6, 0.2, 0.2), key=key)
    assert sorted(np.concatenate(parts)) == list(range(300))
    sides = [set(runs[part]) for part in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert [len(side) for side in sides] == [24, 8, 8]


def test_a_number_is_that_many_runs(key):
    parts = split(100, key=key)
    assert [len(part) for part in parts] == [70, 15, 15]
    same = split(100, key=key)
    assert all(np.array_equal(a, b) for a, b in zip(parts, same))
    assert not np.array_equal(parts.test, split(100, key=jax.random.key(1)).test)


def test_errors(key):
    with pytest.raises(ValueError, match="sum 1"):
        split(10, (0.5, 0.5, 0.5), key=key)
    with pytest.raises(ValueError, match="2 runs cannot be split"):
        split([0, 0, 1, 1], key=key)
