"""LSTMs on formal languages, some of which learn them well and some badly.

What is varied after Zhou et al., "Universal neural functionals", 2024, whose zoo of 10,000 recurrent
networks (not released) has hyperparameters drawn at random and is there to predict success from
weights; cells and words after Herrmann, Faccio and Schmidhuber 2024 (see `lstm_languages.py`).

Chosen here: 16 languages, of which each network learns one; ranges of learning rate, weight decay,
initial scale, optimiser and number of steps.
"""

from configs.zoo._config import Choice, LogUniform, Where, ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "cell": "lstm", "tokens": 5, "hidden": 16, "layers": 1, "outputs": 5, "head": "each",
    }  # fmt: skip
    full = ZooConfig(
        name="varied_lstm_languages",
        paper="Zhou et al. 2024, zoo of recurrent networks; Herrmann et al. 2024, formal languages",
        architecture="recurrent",
        settings={**settings, "hidden": 32, "layers": 2},
        task="languages",
        options={"count": 16, "offsets": 2, "longest": 7},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="accuracy",
        hyper={
            "optimiser": Choice(("adam", "rmsprop", "momentum")),
            "learning_rate": Where(
                "optimiser", {"momentum": LogUniform(1e-2, 1.0)}, LogUniform(1e-3, 5e-2)
            ),
            "weight_decay": LogUniform(1e-6, 1e-2),
            "init_scale": LogUniform(0.3, 3.0),
            "clip_norm": 1.0,
            "steps": Choice((250, 500, 1000, 2000, 4000)),
        },
        models=10_000,
        steps=4000,
        chunk=250,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 1000, "steps": 600, "settings": settings, "chunk": 250,
            "hyper": {**full.hyper, "steps": Choice((75, 150, 300, 600))},
        },
        tiny={
            "models": 3, "steps": 80, "settings": {**settings, "hidden": 8},
            "options": {"count": 2, "offsets": 2, "longest": 3, "test": 1},
            "hyper": {
                **full.hyper, "steps": Choice((60, 80)), "learning_rate": LogUniform(2e-2, 5e-2),
                "optimiser": Choice(("adam", "rmsprop")), "init_scale": 1.0,
            },
        },
    )  # fmt: skip
