"""Tetris zoos: feed-forward networks on 4 x 4 shapes.

Source: Schürholt, Kostadinov and Borth, "Self-supervised representation learning on neural network
weights for model characteristic prediction", 2021. Dense 16-5-4 without biases, 100 weights; a zoo of
1,000 seeds, and one that varies activation, initialiser and learning rate; 75 epochs.

From memory of the paper: the number of weights and layers, the epochs, the seeds, tanh and Adam in
the first zoo, and that the second has two activations and learning rates from 1e-5 to 1e-3 over 100
seeds. Departures: the pictures are generated here (four tetrominoes in a corner, noisy); the
initialisers are this library's, biases aside there are no others; batches of 32; snapshots at five
epochs where the paper keeps every one.
"""

from configs.zoo._config import Grid, ZooConfig, sized

INITIALISERS = ("uniform", "normal", "he_uniform", "he_normal", "glorot_uniform", "glorot_normal")


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="tetris_ffn",
        paper="Schürholt et al. 2021, TETRIS-SEED and TETRIS-HYP",
        architecture="mlp",
        settings={"widths": (16, 5, 4), "activation": "tanh", "bias": False},
        task="tetris",
        options={},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-3},
        models=1000,
        epochs=75,
        batch_size=32,
        snapshots=(0, 1, 5, 25, 50),
        chunk=512,
        parts={
            "seed": {},
            "hyp": {
                "settings": {
                    "widths": (16, 5, 4), "bias": False, "activation": ("tanh", "relu"),
                    "initialiser": INITIALISERS,
                },
                "hyper": {
                    "optimiser": "adam",
                    "activation": Grid(("tanh", "relu")),
                    "initialiser": Grid(INITIALISERS),
                    "learning_rate": Grid((1e-3, 1e-4, 1e-5)),
                    "seed": Grid(tuple(range(100))),
                },
                "models": 2900,
            },
        },
    )  # fmt: skip
    return sized(
        full,
        size,
        small={"parts": {"seed": {"models": 500}, "hyp": {**full.parts["hyp"], "models": 500}}},
        tiny={
            "parts": {}, "models": 16, "epochs": 12, "snapshots": (0,),
            "hyper": {"optimiser": "adam", "learning_rate": 3e-2},
            "options": {"train": 256, "test": 100},
        },
    )  # fmt: skip
