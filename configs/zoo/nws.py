"""NWS: networks of many architectures and hyperparameters, with 20 snapshots each.

Source: Eilertsen et al., "Classifying the classifier: dissecting the weight space of neural networks",
2020: 16,000 CNNs, 20 snapshots of each, of which hyperparameters are read from slices of weights.

From memory of the paper: batch size, augmentation, optimiser (Adam, RMSprop, momentum), activation
(ReLU, ELU, sigmoid, tanh), initialiser (constant, normal, Glorot uniform, Glorot normal), filters of 3,
5 or 7, three to five convolutions and dense layers, widths of 8 to 64 channels and 32 to 128 units.
Departures: the parts are 12 architectures drawn from these ranges, each with one batch size, 1,000
networks in each; MNIST only; no augmentation; "uniform" for the constant initialiser, from which
networks with equal units cannot part; max-pooling behind the first three convolutions; learning rates
log-uniform in [2e-4, 5e-3], for momentum ten times that.
"""

import random

from configs.zoo._config import Choice, LogUniform, Where, ZooConfig, sized

ACTIVATIONS = ("relu", "elu", "sigmoid", "tanh")
INITIALISERS = ("uniform", "normal", "glorot_uniform", "glorot_normal")


def architectures(count: int) -> dict[str, dict]:
    """Parts: architectures drawn one after the other, so that the first are always the same."""
    draw, parts = random.Random(2020), {}
    for number in range(count):
        convolutions, dense = draw.randint(3, 5), draw.randint(3, 5)
        kernel = draw.choice((3, 5, 7))
        settings = {
            "input_shape": (28, 28, 1),
            "channels": tuple(draw.choice((8, 16, 32, 64)) for _ in range(convolutions)),
            "kernel": kernel, "stride": 1, "padding": "SAME",
            "pooling": ("max",) * 3 + ("none",) * (convolutions - 3), "head": "flatten",
            "dense_widths": (*(draw.choice((32, 64, 128)) for _ in range(dense - 1)), 10),
            "activation": ACTIVATIONS, "initialiser": INITIALISERS, "mean": 0.5, "std": 0.5,
        }  # fmt: skip
        batch = draw.choice((32, 64, 128, 256))
        name = f"{number:02d}_conv{convolutions}_k{kernel}_dense{dense}_batch{batch}"
        parts[name] = {"settings": settings, "batch_size": batch}
    return parts


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="nws",
        paper="Eilertsen et al. 2020, NWS",
        architecture="cnn",
        settings={},
        task="images",
        options={"dataset": "mnist", "size": 28, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "activation": Choice(ACTIVATIONS),
            "initialiser": Choice(INITIALISERS),
            "optimiser": Choice(("adam", "rmsprop", "momentum")),
            "learning_rate": Where(
                "optimiser", {"momentum": LogUniform(2e-3, 5e-2)}, LogUniform(2e-4, 5e-3)
            ),
        },
        models=1000,
        epochs=10,
        batch_size=64,
        snapshots=tuple(0.5 * k for k in range(1, 20)),
        chunk=64,
        parts=architectures(12),
    )
    tiny = {
        "input_shape": (10, 10, 1), "channels": (6, 6), "kernel": 3, "stride": 1, "padding": "SAME",
        "pooling": ("max", "max"), "head": "flatten", "dense_widths": (16, 10),
        "activation": ("relu", "tanh"), "initialiser": ("glorot_uniform", "glorot_normal"),
        "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    return sized(
        full,
        size,
        small={
            "parts": architectures(2), "models": 24, "chunk": 8,
            "options": {**full.options, "train": 1297, "test": 200},
        },
        tiny={
            "parts": {}, "settings": tiny, "models": 4, "epochs": 4, "batch_size": 32,
            "snapshots": (2,), "measured": 64,
            "options": {"dataset": "mnist", "size": 10, "train": 256, "test": 64},
            "hyper": {
                **full.hyper, "activation": Choice(("relu", "tanh")), "learning_rate": 5e-3,
                "initialiser": Choice(("glorot_uniform", "glorot_normal")),
                "optimiser": Choice(("adam", "rmsprop")),
            },
        },
    )  # fmt: skip
