"""Small transformers that classify images as sequences of their rows.

Source: Tran et al., "Equivariant neural functional networks for transformers", 2025, the Small
Transformer Zoo, whose MNIST half is recreated: about 63,000 checkpoints of two-block encoders whose
hyperparameters vary.

From memory of the paper: that optimiser, learning rate, l2, dropout, initialiser and the share of the
data vary, and two blocks. Departures: rows of the image are the sequence (the release does not say how
images became tokens); pre-norm blocks of width 32 with 4 heads; the ranges below are chosen here.
"""

from configs.zoo._config import Choice, LogUniform, Uniform, Where, ZooConfig, sized

INITIALISERS = ("glorot_uniform", "glorot_normal", "truncated_normal", "orthogonal")
ACTIVATIONS = ("relu", "gelu")


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "features": 28, "length": 28, "width": 32, "heads": 4, "layers": 2, "mlp_width": 64,
        "outputs": 10, "head": "mean", "activation": ACTIVATIONS, "initialiser": INITIALISERS,
        "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    full = ZooConfig(
        name="transformer_classification",
        paper="Tran et al. 2025, Small Transformer Zoo, MNIST",
        architecture="transformer",
        settings=settings,
        task="images",
        options={"dataset": "mnist", "size": 28, "rows": True, "test": None},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": Choice(("adam", "rmsprop", "momentum", "sgd")),
            "learning_rate": Where(
                "optimiser",
                {"momentum": LogUniform(3e-3, 0.1), "sgd": LogUniform(1e-2, 0.3)},
                LogUniform(3e-4, 5e-3),
            ),
            "weight_decay": LogUniform(1e-8, 1e-3),
            "dropout": Uniform(0.0, 0.3),
            "data_fraction": Choice((0.7, 0.8, 0.9, 1.0)),
            "activation": Choice(ACTIVATIONS),
            "initialiser": Choice(INITIALISERS),
            "clip_norm": 1.0,
        },
        models=15_000,
        epochs=100,
        batch_size=512,
        snapshots=(50, 75, 90),
        chunk=128,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 32, "epochs": 20, "batch_size": 64, "snapshots": (5, 10), "chunk": 16,
            "settings": {**settings, "features": 8, "length": 8},
            "options": {**full.options, "size": 8, "train": 1297, "test": 500},
        },
        tiny={
            "models": 4, "epochs": 10, "batch_size": 32, "snapshots": (), "measured": 64,
            "settings": {
                "features": 8, "length": 8, "width": 8, "heads": 2, "layers": 1, "mlp_width": 16,
                "head": "mean", "mean": 0.5, "std": 0.5,
            },
            "hyper": {"optimiser": "adam", "learning_rate": 1e-2},
            "options": {**full.options, "size": 8, "train": 256, "test": 64},
        },
    )  # fmt: skip
