"""Handwritten digits: 1,797 real 8 x 8 scans that come with scikit-learn.

Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning
Repository (1998), CC BY 4.0; the copy in scikit-learn is its test set.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsljax._compat import require


class Digits(NamedTuple):
    """Images `(samples, 64)` in float32 and labels `(samples,)`, in two fixed parts."""

    train_x: jax.Array
    train_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array


def load_digits(*, test: int = 500, seed: int = 0) -> Digits:
    """The digits, standardised with the training part's pixel means and its overall deviation.

    Args:
        test: images held out, drawn once with `seed`.
        seed: of the split; the same for every run.
    """
    require("sklearn", extra="experiments")
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    if not 0 < test < len(images):
        raise ValueError(f"`test` is {test}; there are {len(images)} images.")
    order = np.random.default_rng(seed).permutation(len(images))
    train, held_out = order[test:], order[:test]
    centred = images - images[train].mean(axis=0)
    x = jnp.asarray(centred / centred[train].std(), jnp.float32)
    y = jnp.asarray(labels, jnp.int32)
    return Digits(x[train], y[train], x[held_out], y[held_out])
