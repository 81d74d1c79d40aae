"""Dense networks on the Wisconsin breast cancer data.

Source: Erdogan, "Geometric flow models over neural network weights", 2025: networks 30-16-16-2 of 802
weights, started from a normal distribution of variance 0.1, Adam at 1e-3, batches of 64, 50 epochs, a
snapshot every 4 steps after the first 10 epochs, 100 runs, parts of 80, 10 and 10 in 100. Published:
accuracy .992 +- .010, loss .048 +- .032 (averages over those snapshots).

Departures: biases start at zero; batches are drawn with replacement; the test part is drawn by another
generator, so it is another tenth, of 57 points. Measured here: .978 +- .016 and .058 +- .019 at the end
of training, .973 +- .021 and .084 +- .043 over all snapshots (`experiments/results`).
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="breast_cancer",
        paper="Erdogan 2025",
        architecture="mlp",
        settings={"widths": (30, 16, 16, 2), "initialiser": "normal"},
        task="table",
        options={"name": "breast_cancer"},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-3, "init_scale": 0.1**0.5 / 0.05},
        models=100,
        steps=400,
        batch_size=64,
        snapshots=tuple(range(80, 400, 4)),
        chunk=100,
    )
    return sized(
        full,
        size,
        small={},
        tiny={"models": 8, "steps": 60, "snapshots": (0, 30)},
    )
