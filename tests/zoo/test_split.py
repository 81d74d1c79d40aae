"""Splits keep runs together, hold architectures out or spread them, and are functions of the key."""

import jax
import numpy as np
import pytest

from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.split import last_checkpoints, split, split_populations


def assert_disjoint(parts, labels):
    sides = [set(labels[part]) for part in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    return sides


def test_parts_are_disjoint_by_run_and_cover_all(key):
    runs = np.random.default_rng(0).integers(0, 40, 300)
    parts = split(runs, (0.6, 0.2, 0.2), key=key)
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert [len(side) for side in assert_disjoint(parts, runs)] == [24, 8, 8]


def test_a_number_is_that_many_runs(key):
    parts = split(100, key=key)
    assert [len(part) for part in parts] == [70, 15, 15]
    same = split(100, key=key)
    assert all(np.array_equal(a, b) for a, b in zip(parts, same))
    assert not np.array_equal(parts.test, split(100, key=jax.random.key(1)).test)


def test_strata_are_in_every_part_in_proportion(key):
    runs = np.repeat(np.arange(60), 5)
    width = np.array(["narrow", "wide", "wide"])[runs % 3]
    parts = split(runs, (0.6, 0.2, 0.2), key=key, stratify=width)
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert_disjoint(parts, runs)
    for part, share in zip(parts, (0.6, 0.2, 0.2)):
        assert (width[part] == "wide").sum() == round(share * 200)


def test_groups_stay_together_also_through_shared_runs(key):
    draw = np.random.default_rng(1)
    runs = draw.integers(0, 200, 300)
    groups = np.where(draw.random(300) < 0.9, runs // 2, draw.integers(0, 100, 300))
    parts = split(runs, key=key, groups=groups)
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert_disjoint(parts, runs)
    assert_disjoint(parts, groups)
    chain = split([0, 0, 1, 1, 2, 3, 4], key=key, groups=["a", "b", "b", "c", "d", "e", "f"])
    assert len({k for k, part in enumerate(chain) for i in part if i < 4}) == 1


def test_a_population_tells_its_runs_and_its_parents(key):
    parent = np.array([-1, 0, 1, -1, 3, -1, 5, -1, 7, -1])
    columns = {"run": np.arange(10), "parent": parent}
    families = np.array([0, 0, 0, 3, 3, 5, 5, 7, 7, 9])
    population = Population({"w": np.zeros((10, 2))}, columns)
    parts = split(population, (0.4, 0.3, 0.3), key=key)
    assert_disjoint(parts, families)
    assert sorted(np.concatenate(parts)) == list(range(10))
    circle = Population({"w": np.zeros((3, 2))}, {"parent": np.array([1, 0, -1])})
    with pytest.raises(ValueError, match="among its own ancestors"):
        split(circle, key=key)


@pytest.mark.parametrize("hold_out", [False, True])
def test_populations_of_several_architectures(key, hold_out):
    zoos = [Population({"w": np.zeros((12, n))}, {"run": np.arange(12) // 2}) for n in (2, 3, 4, 5)]
    found = split_populations(zoos, (0.5, 0.25, 0.25), key=key, hold_out=hold_out)
    for parts in found:
        assert sorted(np.concatenate(parts)) == list(range(12))
        assert_disjoint(parts, np.arange(12) // 2)
    sizes = np.array([[len(part) for part in parts] for parts in found])
    if hold_out:
        assert sorted(sizes.tolist()) == [[0, 0, 12], [0, 12, 0], [12, 0, 0], [12, 0, 0]]
    else:
        assert (sizes == sizes[0]).all() and (sizes > 0).all()


def test_last_checkpoints():
    runs, steps = np.array([2, 0, 2, 0, 1]), np.array([5, 3, 1, 4, 0])
    assert last_checkpoints(runs, steps).tolist() == [0, 3, 4]


def test_errors(key):
    with pytest.raises(ValueError, match="sum 1"):
        split(10, (0.5, 0.5, 0.5), key=key)
    with pytest.raises(ValueError, match="2 runs cannot be split"):
        split([0, 0, 1, 1], key=key)
    with pytest.raises(ValueError, match="2 runs with `stratify` 'b'"):
        split(5, key=key, stratify=list("aaabb"))
    with pytest.raises(ValueError, match=r"run 0 has several values of `stratify`: \['a', 'b'\]"):
        split([0, 0, 1, 2], key=key, stratify=list("abab"))
    with pytest.raises(ValueError, match=r"`groups` has shape \(2,\); there are 5"):
        split(5, key=key, groups=[1, 2])
