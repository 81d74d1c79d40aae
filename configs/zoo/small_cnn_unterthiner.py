"""The Small CNN Zoo: networks of 4,970 weights, hyperparameters drawn at random.

Source: Unterthiner et al., "Predicting neural network accuracy from weights", 2020, and its released
files: three convolutions 3 x 3 of 16 channels, stride 2, without padding, mean over positions, dense
10; grey inputs in [-1, 1]; 30,000 runs on each data set; checkpoints after epochs 0, 1, 2, 3, 20, 40,
60, 80 and 86.

From memory of the paper: learning rate log-uniform in [5e-4, 5e-2], l2 log-uniform in [1e-8, 1e-2],
dropout uniform in [0, 0.7], deviation of normal and truncated normal initial weights log-uniform in
[1e-3, 0.5], share of the data 0.1, 0.25, 0.5 or 1, ReLU or tanh, Adam, RMSprop or SGD, five initialisers,
batches of 512. Departures: SGD has no momentum; l2 is inside the gradient, so twice as strong for the
same number as a penalty without a half; batches are drawn with replacement.
"""

from configs.zoo._config import Choice, LogUniform, Uniform, Where, ZooConfig, sized

INITIALISERS = ("glorot_normal", "normal", "truncated_normal", "orthogonal", "he_normal")
DEVIATION = LogUniform(1e-3 / 0.05, 0.5 / 0.05)  # these two have 0.05 at a scale of 1


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="small_cnn_unterthiner",
        paper="Unterthiner et al. 2020, Small CNN Zoo, MNIST",
        architecture="cnn",
        settings={
            "input_shape": (28, 28, 1), "channels": (16, 16, 16), "kernel": 3, "stride": 2,
            "padding": "VALID", "head": "mean", "dense_widths": (10,), "mean": 0.5, "std": 0.5,
            "activation": ("relu", "tanh"), "initialiser": INITIALISERS,
        },
        task="images",
        options={"dataset": "mnist", "size": 28, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "learning_rate": LogUniform(5e-4, 5e-2),
            "weight_decay": LogUniform(1e-8, 1e-2),
            "dropout": Uniform(0.0, 0.7),
            "data_fraction": Choice((0.1, 0.25, 0.5, 1.0)),
            "activation": Choice(("relu", "tanh")),
            "optimiser": Choice(("adam", "rmsprop", "sgd")),
            "initialiser": Choice(INITIALISERS),
            "init_scale": Where(
                "initialiser", {"normal": DEVIATION, "truncated_normal": DEVIATION}, 1.0
            ),
        },
        models=30_000,
        epochs=86,
        batch_size=512,
        snapshots=(0, 1, 2, 3, 20, 40, 60, 80),
        chunk=256,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 48, "epochs": 20, "batch_size": 64, "snapshots": (0, 1, 2, 3, 10), "chunk": 16,
            "options": {**full.options, "train": 1297, "test": 500},
        },
        tiny={
            "models": 12, "epochs": 30, "batch_size": 32, "snapshots": (0, 3), "measured": 64,
            "settings": {
                **full.settings, "input_shape": (12, 12, 1), "channels": (8, 8),
                "initialiser": ("glorot_normal", "normal", "he_normal"),
            },
            "hyper": {
                **full.hyper, "initialiser": Choice(("glorot_normal", "normal", "he_normal")),
                "learning_rate": LogUniform(5e-3, 5e-2), "dropout": Uniform(0.0, 0.2),
            },
            "options": {**full.options, "size": 12, "train": 160, "test": 64},
        },
    )  # fmt: skip
