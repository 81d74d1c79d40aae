"""Adapters of one base, each for a few classes.

Source: adapters labelled by what they were trained on, as in LoRA-WS (Putterman et al., "Learning on
LoRAs", 2024) and Model-J (Horwitz et al. 2025): a base fine-tuned many times, each time on a subset of
classes, which is then to be read from the adapter. Departures: the base is a dense network 64-32-32-10
trained on digits for one epoch, so that adapters have something to learn; each adapter sees three of
the ten classes (column `classes`); ranks 1, 2 and 4, one a part; all kernels; Adam at 5e-3, 200 steps.
"""

from configs.zoo._config import Base, ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    images = {"dataset": "digits", "flat": True}
    mlp = {"widths": (64, 32, 32, 10), "mean": 0.3, "std": 0.4}

    def base(rank: int) -> Base:
        adapters = {"rank": rank, "targets": "kernel"}
        return Base("mlp", mlp, images, epochs=1, learning_rate=1e-3, adapters=adapters)

    full = ZooConfig(
        name="lora_classes",
        paper="Putterman et al. 2024 and Horwitz et al. 2025",
        architecture="lora",
        settings={},
        task="class_subsets",
        options={**images, "tasks": 2000, "chosen": 3},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={"optimiser": "adam", "learning_rate": 5e-3},
        models=2000,
        steps=200,
        batch_size=64,
        chunk=500,
        base=base(2),
        parts={f"rank_{rank}": {"base": base(rank)} for rank in (1, 2, 4)},
    )
    return sized(
        full,
        size,
        small={"models": 200, "chunk": 100, "parts": {}},
        tiny={"models": 6, "steps": 40, "parts": {}, "measured": 64},
    )
