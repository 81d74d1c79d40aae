"""Sparsified twins: trained networks, and copies of them made sparse.

Source: Honegger, Schürholt and Borth, "Sparsified model zoo twins: investigating populations of
sparsified neural network models", 2023: the populations of the model zoos (here the MNIST one, see
`mnist_cnn.py`), twinned by magnitude pruning at several ratios, with fine-tuning under the mask, and
by variational dropout (Molchanov 2017).

From memory of the paper: ratios in steps of ten per cent, and about 15 epochs of fine-tuning and 25 of
variational dropout. Departures: pruning is of each kernel by itself, biases stay; the variational
twins draw one set of weights a batch (no local reparametrisation), at a penalty of 1 over the number
of training samples, and weights with a log ratio above 3 become zero. A twin's `parent` is the row of
the network it was made of, `zeros` is its share of weights that are zero.
"""

from configs.zoo._config import Descend, Grid, ZooConfig, sized
from configs.zoo._small_cnn import SEEDED, SETTINGS, TINY


def twins(ratios: tuple, epochs: tuple, samples: int, rates: tuple = (3e-4, 1e-3)) -> tuple:
    """Pruned twins at some ratios, and one by variational dropout."""
    magnitude = {"sparsity": Grid(ratios), "learning_rate": rates[0]}
    variational = {"penalty": 1 / samples, "learning_rate": rates[1]}
    return (
        Descend("magnitude", magnitude, copies=len(ratios), epochs=epochs[0]),
        Descend("variational", variational, copies=1, epochs=epochs[1]),
    )


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="sparse_twins",
        paper="Honegger et al. 2023, MNIST",
        architecture="cnn",
        settings={**SETTINGS, "activation": "tanh", "initialiser": "he_uniform"},
        task="images",
        options={"dataset": "mnist", "size": 28, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={**SEEDED, "sparsity": 0.0, "penalty": 0.0},
        models=1000,
        epochs=50,
        batch_size=64,
        chunk=128,
        descend=twins(tuple(k / 10 for k in range(1, 10)), (15, 25), 60_000),
    )
    return sized(
        full,
        size,
        small={
            "models": 8, "chunk": 8, "epochs": 20,
            "hyper": {**full.hyper, "learning_rate": 2e-3},
            "descend": twins((0.3, 0.5, 0.7, 0.9), (5, 20), 1297, (1e-3, 2e-3)),
            "options": {**full.options, "train": 1297, "test": 500},
        },
        tiny={
            "settings": TINY,
            "models": 3, "chunk": 3, "epochs": 6, "batch_size": 32, "measured": 64,
            "hyper": {**full.hyper, "learning_rate": 1e-2},
            "descend": twins((0.5, 0.9), (1, 12), 256, (1e-2, 1e-2)),
            "options": {"dataset": "mnist", "size": 10, "train": 256, "test": 64},
        },
    )  # fmt: skip
