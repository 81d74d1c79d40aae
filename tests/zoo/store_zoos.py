"""Small populations and comparisons that the tests of stored zoos share."""

import jax
import numpy as np

from wsljax.zoo import Population


def small(models: int, start: int = 0) -> Population:
    """Networks that tell their number: every weight of network n is n plus its place."""
    number = np.arange(start, start + models, dtype=np.float32)
    kernel = number[:, None, None] + np.linspace(0, 0.5, 12, dtype=np.float32).reshape(3, 4)
    return Population(
        {"dense_0": {"kernel": kernel, "bias": number[:, None] + np.zeros((1, 4), np.float32)}},
        {"number": np.arange(start, start + models), "loss": number.astype(np.float64) / 7},
    )


BYTES = 4 * 12 + 4 * 4 + 8 + 8  # of one small network and its columns


def numbers(population) -> list[int]:
    """Which networks a population holds, after a look at all that belongs to them."""
    found = np.asarray(population.columns["number"])
    expected = small(int(found.max()) + 1 if len(found) else 0).take(found)
    assert_same(population, expected)
    return found.tolist()


def assert_same(a, b) -> None:
    """Bit for bit, dtypes and trees included."""
    assert jax.tree.structure(a.params) == jax.tree.structure(b.params)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        assert_same_array(x, y)
    assert a.columns.keys() == b.columns.keys()
    for name in a.columns:
        assert_same_array(a.columns[name], b.columns[name])


def assert_same_array(x, y) -> None:
    x, y = np.asarray(x), np.asarray(y)
    assert (x.shape, x.dtype) == (y.shape, y.dtype)
    assert x.tobytes() == y.tobytes()
