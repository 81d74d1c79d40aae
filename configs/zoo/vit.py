"""Vision transformers: pretrained ones, and copies of them trained further on the data themselves.

Source: Falk, Schürholt and Borth, "A model zoo of vision transformers", 2025: 250 ViTs, each
fine-tuned from one of a few pretrained ones, told apart by their pretraining, seeds and
hyperparameters.

From memory of the paper: that a dozen networks were pretrained, with and without labels, and that
learning rate and weight decay vary in fine-tuning. Departures: the networks are small (patches of 4,
width 32, two blocks; the paper has ViT-S); pretraining is on the same images with left and right
swapped, as ImageNet is not shipped; fine-tuning keeps the output layer; no pretraining without labels.
A copy's `parent` is the row of its pretrained network. All are measured on the images as they are.
"""

from configs.zoo._config import Descend, Grid, LogUniform, ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "image": (28, 28, 1), "patch": 4, "width": 32, "heads": 4, "layers": 2, "mlp_width": 64,
        "outputs": 10, "head": "class", "mean": 0.5, "std": 0.5,
    }  # fmt: skip
    options = {"dataset": "mnist", "size": 28, "test": None}
    tuned = {"learning_rate": Grid((3e-4, 1e-3, 3e-3)), "weight_decay": Grid((1e-3, 1e-2))}
    full = ZooConfig(
        name="vit",
        paper="Falk et al. 2025, ViT zoo",
        architecture="transformer",
        settings=settings,
        task="images",
        options=options,
        pretrain={**options, "mirrored": True},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": "adamw",
            "learning_rate": LogUniform(1e-3, 3e-3),
            "weight_decay": 1e-2,
            "schedule": "cosine",
            "clip_norm": 1.0,
        },
        models=10,
        epochs=20,
        batch_size=128,
        chunk=10,
        descend=(Descend("finetuned", tuned, copies=24, epochs=5),),
    )  # fmt: skip
    less = {**options, "size": 16, "train": 1297, "test": 500}
    tiny = {"dataset": "mnist", "size": 8, "train": 256, "test": 64}
    return sized(
        full,
        size,
        small={
            "settings": {**settings, "image": (16, 16, 1)}, "options": less, "models": 4,
            "pretrain": {**less, "mirrored": True}, "epochs": 30, "batch_size": 64,
            "descend": (Descend("finetuned", tuned, copies=6, epochs=10),),
        },
        tiny={
            "settings": {
                "image": (8, 8, 1), "patch": 4, "width": 16, "heads": 2, "layers": 1,
                "mlp_width": 16, "head": "class", "mean": 0.5, "std": 0.5,
            },
            "options": tiny, "pretrain": {**tiny, "mirrored": True}, "models": 2, "epochs": 10,
            "hyper": {"optimiser": "adamw", "learning_rate": 1e-2, "weight_decay": 1e-2},
            "batch_size": 32, "measured": 64, "chunk": 2,
            "descend": (
                Descend("finetuned", {"learning_rate": Grid((1e-2, 3e-3))}, copies=2, epochs=10),
            ),
        },
    )  # fmt: skip
