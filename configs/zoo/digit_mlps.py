"""Dense networks on handwritten digits, many runs with snapshots: what a generator is to learn.

Networks 64-16-10 of 1,210 weights, He's initialisation, SGD at 0.1 with momentum 0.9, batches of 64 of the
1,297 digits of scikit-learn that are trained on, 480 steps, a snapshot every 60; the other 500 are the
test part. The stand-in for populations of MNIST classifiers 784-16-10 (1,024 runs) and 784-10-10
(Erdogan 2025; Peebles et al., "Learning to learn with generative models of neural network
checkpoints", 2022). Measured: test accuracy .955 +- .008.
"""

from configs.zoo._config import ZooConfig, sized

STEPS, SNAPSHOTS = 480, 8


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="digit_mlps",
        paper="populations as in Erdogan 2025 and Peebles et al. 2022, of digits",
        architecture="mlp",
        settings={"widths": (64, 16, 10), "initialiser": "he_normal"},
        task="images",
        options={"dataset": "digits", "flat": True, "test": 500},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "momentum", "learning_rate": 0.1, "momentum": 0.9},
        models=1024,
        steps=STEPS,
        batch_size=64,
        snapshots=tuple(range(STEPS // SNAPSHOTS, STEPS, STEPS // SNAPSHOTS)),
        chunk=1024,
    )
    return sized(
        full,
        size,
        small={},
        tiny={"models": 48, "snapshots": (), "steps": 240},
    )
