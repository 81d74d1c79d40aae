"""Adapters of one base, each for somebody's way of drawing.

Source: Dravid et al., "Interpreting the weight space of customized diffusion models"
(weights2weights), 2024: 64,974 adapters of rank 1 on the attention of Stable Diffusion, one for each
person's face. Here the base is a small vision transformer trained on digits, and a person is a turn, a
slant, a width, a height and bright on dark or dark on bright, which are columns. Rank 1 on queries, keys
and values, and on the values' output, as memory has it of the paper; Adam at 1e-2 on 200 pictures of
an identity, 300 steps. An adapter of rank 1 has no units to permute, only a scale, so the spec that is
stored has none. At the size "tiny" the base is a dense network, with adapters of rank 2.
"""

from configs.zoo._config import Base, ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    vit = {
        "image": (8, 8, 1), "patch": 2, "width": 32, "heads": 4, "layers": 2, "mlp_width": 64,
        "outputs": 10, "head": "class", "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    images = {"dataset": "digits"}
    adapters = {"rank": 1, "targets": "(query|key|value|out)/kernel"}
    base = Base("transformer", vit, images, epochs=60, adapters=adapters)
    full = ZooConfig(
        name="lora_identities",
        paper="Dravid et al. 2024, weights2weights",
        architecture="lora",
        settings={},
        task="styles",
        options={**images, "tasks": 1000, "train": 200, "test": 20},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-2, "schedule": "cosine"},
        models=1000,
        steps=300,
        batch_size=64,
        chunk=100,
        base=base,
    )  # fmt: skip
    small = {"train": 200, "test": 50}
    return sized(
        full,
        size,
        small={"models": 32, "chunk": 16, "options": {**images, "tasks": 32, **small}},
        tiny={
            "models": 3, "steps": 60, "batch_size": 32,
            "options": {**images, "tasks": 3, "train": 100, "test": 30, "flat": True},
            "hyper": {"optimiser": "adam", "learning_rate": 3e-2},
            "base": Base(
                "mlp", {"widths": (64, 16, 10), "mean": 0.3, "std": 0.4},
                {**images, "flat": True}, epochs=5, learning_rate=1e-2,
                adapters={"rank": 2, "targets": "kernel"},
            ),
        },
    )  # fmt: skip
