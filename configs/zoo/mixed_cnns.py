"""Convolutional networks of many architectures, some of which learn digits well and some badly.

After Kofinas et al., "Graph neural networks for learning equivariant representations of neural
networks", 2024, whose CNN Wild Park has networks of 2 to 8 layers, 4 to 64 channels, kernels of 3, 5 or
7, several activations, and residuals: each layer may add what an earlier one gave, to as many channels
as both have.

Departures: a part is an architecture, drawn from these ranges, and has several networks, so that each
architecture is trained in one computation; grey digits instead of CIFAR-10; the first layer has a
stride of 2. An architecture has each number of layers in turn; widths and kernels are drawn again until
there are no more than `most` weights, which at the sizes for two cores leaves deep networks narrow.
"""

import random

from configs.zoo._config import Choice, LogUniform, Uniform, Where, ZooConfig, sized

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid")
LAYERS = (2, 3, 4, 5, 6, 7, 8)


def architectures(
    count: int, *, image: int, most: int | None = None, activations: tuple[str, ...] = ACTIVATIONS
) -> dict[str, dict]:
    """Parts: architectures drawn one after the other, so that the first are always the same."""
    draw, parts = random.Random(2024), {}
    for number in range(count):
        layers = LAYERS[number % len(LAYERS)]
        while True:
            channels = [round(4 * 16 ** draw.random()) for _ in range(layers)]
            kernels = [draw.choice((3, 5, 7)) for _ in range(layers)]
            ends = zip([1, *channels[:-1]], channels, kernels, strict=True)
            if most is None or sum(i * o * k * k for i, o, k in ends) <= most:
                break
        skips = [draw.randrange(-1, i) if draw.random() < 0.5 else -1 for i in range(layers)]
        activation = draw.choice(activations)
        joined = sum(s >= 0 for s in skips)
        name = f"{number:03d}_conv{layers}_{activation}_{joined}_residuals"
        parts[name] = {
            "settings": {
                "input_shape": (image, image, 1), "channels": tuple(channels),
                "kernel": tuple(kernels), "stride": (2,) + (1,) * (layers - 1),
                "padding": tuple(k // 2 for k in kernels), "residual": tuple(skips),
                "head": "mean", "dense_widths": (10,), "activation": activation,
                "initialiser": "he_normal", "mean": 0.5, "std": 0.5,
            }
        }  # fmt: skip
    return parts


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="mixed_cnns",
        paper="Kofinas et al. 2024, CNN Wild Park",
        architecture="cnn",
        settings={},
        task="images",
        options={"dataset": "mnist", "size": 28, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": Choice(("adam", "rmsprop", "momentum")),
            "learning_rate": Where(
                "optimiser", {"momentum": LogUniform(3e-3, 0.1)}, LogUniform(3e-4, 1e-2)
            ),
            "weight_decay": LogUniform(1e-6, 1e-2),
            "dropout": Uniform(0.0, 0.3),
            "data_fraction": Choice((0.1, 0.25, 0.5, 1.0)),
            "init_scale": LogUniform(0.5, 1.5),
            "clip_norm": 1.0,
        },
        models=100,
        epochs=10,
        batch_size=128,
        chunk=50,
        parts=architectures(280, image=28),
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "parts": architectures(21, image=12, most=8000), "models": 24, "chunk": 24, "epochs": 4,
            "batch_size": 32, "measured": 500,
            "options": {**full.options, "size": 12, "train": 1200, "test": 1000},
        },
        tiny={
            "parts": architectures(3, image=8, most=1000, activations=("relu", "tanh")),
            "models": 4, "epochs": 8, "batch_size": 16, "measured": 64,
            "options": {**full.options, "size": 8, "train": 192, "test": 64},
            "hyper": {
                "optimiser": "adam", "learning_rate": LogUniform(1e-2, 3e-2), "init_scale": 1.0,
            },
        },
    )  # fmt: skip
