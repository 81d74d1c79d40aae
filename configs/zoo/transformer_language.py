"""Small transformers that model English, character by character.

No zoo of the literature is this one: it is the language part of what Falk, Schürholt and Borth 2025 and
the Small Transformer Zoo (Tran et al. 2025) do for images and topics, at a size that trains in minutes.
The text is what scikit-learn says of its data sets, 15,000 characters; the last tenth is measured.
Causal, pre-norm, two blocks of width 32; learning rate, weight decay, activation and initial scale
vary. With so little text networks overfit, which their test and training losses show.
"""

from configs.zoo._config import Choice, LogUniform, ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "tokens": 40, "length": 32, "width": 32, "heads": 4, "layers": 2, "mlp_width": 64,
        "outputs": 40, "causal": True, "head": "each", "activation": ("relu", "gelu"),
    }  # fmt: skip
    full = ZooConfig(
        name="transformer_language",
        paper="a language counterpart of Falk et al. 2025 and Tran et al. 2025",
        architecture="transformer",
        settings=settings,
        task="characters",
        options={"length": 32},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="test_accuracy",
        hyper={
            "optimiser": "adamw",
            "learning_rate": LogUniform(1e-3, 1e-2),
            "weight_decay": LogUniform(1e-4, 0.3),
            "activation": Choice(("relu", "gelu")),
            "init_scale": LogUniform(0.5, 2.0),
            "schedule": "cosine",
            "clip_norm": 1.0,
        },
        models=1000,
        steps=2000,
        batch_size=32,
        snapshots=(0, 100, 300, 1000),
        chunk=64,
        measured=256,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={"models": 16, "steps": 400, "snapshots": (0, 50, 150), "chunk": 16},
        tiny={
            "models": 3, "steps": 40, "batch_size": 16, "snapshots": (0,), "measured": 16,
            "settings": {
                "tokens": 40, "length": 12, "width": 12, "heads": 2, "layers": 1, "mlp_width": 16,
                "outputs": 40, "causal": True, "head": "each",
            },
            "options": {"length": 12, "test": 24},
            "hyper": {"optimiser": "adam", "learning_rate": LogUniform(1e-2, 2e-2)},
        },
    )  # fmt: skip
