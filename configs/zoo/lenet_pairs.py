"""LeNets that tell one class from all others.

Source: Kurtenbach and Shamir, "An open dataset of neural networks for hypernetwork research", 2025:
10,000 LeNet-5 for binary classification, 1,000 for each of the ten classes of ImageNette, against the
nine others; the class can be read from the weights with 72.0% accuracy.

Departures: ImageNette is not shipped, so the images are MNIST (or the digits of scikit-learn) at 32 x
32; ReLU and max-pooling, two logits, Adam at 1e-3 and 10 epochs are chosen here. The other classes
count for as many images as the class itself (the rest have the class -1), so that one answer to all is
right half of the time.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "input_shape": (32, 32, 1), "channels": (6, 16), "kernel": 5, "stride": 1,
        "padding": "VALID", "pooling": "max", "head": "flatten", "dense_widths": (120, 84, 2),
        "mean": 0.5, "std": 0.5, "initialiser": "torch",
    }  # fmt: skip
    full = ZooConfig(
        name="lenet_pairs",
        paper="Kurtenbach and Shamir 2025",
        architecture="cnn",
        settings=settings,
        task="one_class",
        options={"dataset": "mnist", "size": 32, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-3},
        models=10_000,
        epochs=10,
        batch_size=128,
        chunk=50,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 40, "epochs": 20, "chunk": 20,
            "options": {**full.options, "train": 1297, "test": 200},
        },
        tiny={
            "models": 3, "epochs": 4, "batch_size": 64, "measured": 128,
            "settings": {
                **settings, "input_shape": (10, 10, 1), "channels": (6,), "kernel": 3,
                "dense_widths": (16, 2),
            },
            "hyper": {"optimiser": "adam", "learning_rate": 3e-3},
            "options": {"dataset": "mnist", "size": 10, "train": 512, "test": 128},
        },
    )  # fmt: skip
