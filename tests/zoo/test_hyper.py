"""Hyperparameters: completed, checked, and every refusal names the column."""

import numpy as np
import pytest

from wsljax.zoo import OPTIMISERS, complete_hyper


def test_defaults_and_codes():
    hyper = complete_hyper({"optimiser": ["sgd", "adam"], "target": np.ones((2, 7))}, steps=5)
    assert hyper.count == 2
    names = hyper.labels["optimiser"]
    assert names == tuple(OPTIMISERS)
    assert [names[code] for code in hyper.columns["optimiser"]] == ["sgd", "adam"]
    assert hyper.columns["target"].shape == (2, 7)
    assert hyper.columns["target"].dtype == np.float32
    np.testing.assert_array_equal(hyper.columns["seed"], [0, 1])
    np.testing.assert_array_equal(hyper.columns["steps"], [5, 5])
    again = complete_hyper(hyper.columns)
    for name, column in hyper.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "`hyper` is empty"),
        ({"seed": 3}, "'seed' is a scalar"),
        ({"seed": []}, "one network at least"),
        ({"seed": [0, 1], "steps": [5]}, r"different lengths: \{'seed': 2, 'steps': 1\}"),
        ({"seed": [0]}, "give `steps`"),
        ({"steps": [1.5]}, "'steps' must hold one integer"),
        ({"steps": [-1]}, "'steps' must hold one integer"),
        ({"steps": [1], "seed": [[0, 1]]}, "'seed' must hold one integer"),
        ({"steps": [1, 1], "learning_rate": [0.1, np.nan]}, "'learning_rate' is not finite.* 1"),
        ({"steps": [1], "activation": [1j]}, "'activation' holds .*neither numbers nor words"),
        ({"steps": [1], "schedule": ["cosin"]}, "'schedule' has 'cosin'; known are constant"),
        ({"steps": [1], "data_fraction": [1.5]}, "'data_fraction' holds shares"),
        ({"steps": [1], "optimiser": ["adamm"]}, "unknown optimiser 'adamm'"),
        ({"steps": [1], "optimiser": [99]}, "'optimiser' has the code 99; codes are 0 to"),
        ({"steps": [1], "optimiser": [["sgd"]]}, "one a network"),
    ],
)
def test_refusals_name_the_column(columns, message):
    with pytest.raises(ValueError, match=message):
        complete_hyper(columns)
