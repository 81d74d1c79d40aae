"""The convolutional network of 2,464 weights of the model zoos, which several configs share.

Source: Schürholt et al. 2021 and "Model zoos: a dataset of diverse populations of neural network
models", 2022: convolutions 8 (5 x 5), 6 (5 x 5), 4 (2 x 2), dense 20 and 10, weights by layer 208 +
1,206 + 100 + 740 + 210; max-pooling 2 behind the first two convolutions, in front of the activation
there and behind it here, which is the same for activations that grow (all but gelu). At the size "tiny"
it is a smaller one.
"""

from configs.zoo._config import Grid, ZooConfig, sized

SETTINGS = {
    "input_shape": (28, 28, 1), "channels": (8, 6, 4), "kernel": (5, 5, 2), "stride": 1,
    "padding": "VALID", "pooling": ("max", "max", "none"), "head": "flatten",
    "dense_widths": (20, 10), "mean": 0.5, "std": 0.5,
}  # fmt: skip
ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu")
TINY = {
    **SETTINGS, "input_shape": (10, 10, 1), "channels": (6,), "kernel": 3,
    "pooling": "max", "dense_widths": (10,), "activation": "tanh",
}  # fmt: skip
INITIALISERS = ("uniform", "normal", "he_uniform", "he_normal")
SEEDED = {"optimiser": "adam", "learning_rate": 3e-4}
VARIED = {
    "activation": Grid(ACTIVATIONS),
    "initialiser": Grid(INITIALISERS),
    "optimiser": Grid(("adam", "momentum")),
    "learning_rate": Grid((1e-3, 1e-2)),
    "weight_decay": Grid((1e-3, 1e-4)),
    "dropout": Grid((0.0, 0.5)),
}


def small_cnn_zoo(name: str, paper: str, dataset: str, size: str) -> ZooConfig:
    """Three parts: other seeds only; other hyperparameters with fresh, and with repeated seeds."""
    varied = {**SETTINGS, "activation": ACTIVATIONS, "initialiser": INITIALISERS}
    full = ZooConfig(
        name=name,
        paper=paper,
        architecture="cnn",
        settings={**SETTINGS, "activation": "tanh", "initialiser": "he_uniform"},
        task="images",
        options={"dataset": dataset, "size": 28, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper=SEEDED,
        models=1000,
        epochs=50,
        batch_size=64,
        snapshots=(0, 1, 2, 5, 10, 25),
        chunk=128,
        parts={
            "seed": {},
            "hyp_rand": {"settings": varied, "hyper": VARIED},
            "hyp_fix": {
                "settings": varied, "hyper": {**VARIED, "seed": Grid(tuple(range(10)))},
            },
        },
    )  # fmt: skip
    small = {"models": 32, "epochs": 10, "snapshots": (0, 1, 5), "chunk": 16}
    parts = {part: {**change, **small} for part, change in full.parts.items()}
    return sized(
        full,
        size,
        small={"parts": parts, "options": {**full.options, "train": 1297, "test": 500}},
        tiny={
            "parts": {}, "models": 4, "epochs": 4, "snapshots": (0,), "measured": 64,
            "hyper": {**SEEDED, "learning_rate": 1e-2}, "batch_size": 32, "settings": TINY,
            "options": {**full.options, "size": 10, "train": 512, "test": 64},
        },
    )  # fmt: skip
