"""LSTMs that generate the words of formal languages.

Source: Herrmann, Faccio and Schmidhuber, "Learning useful representations of recurrent neural network
weight matrices", 2024, and its files: LSTMs of two layers of 32, nine snapshots of each run, tasks told
apart by their languages.

From memory of the paper: words a^(n+i) b^(n+j) c^(n+k) d^(n+l), a language being its four offsets, and
1,000 runs. Departures: offsets 0 to 3, words up to n = 9, 20,000 steps of Adam at 1e-3 with batches of
5 words (all that a language shows) and the steps of the snapshots are chosen here. Accuracy is of the
next token where the language determines it, on words of lengths that were not shown.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    settings = {
        "cell": "lstm", "tokens": 5, "hidden": 32, "layers": 2, "outputs": 5, "head": "each",
    }  # fmt: skip
    full = ZooConfig(
        name="lstm_languages",
        paper="Herrmann et al. 2024, formal languages",
        architecture="recurrent",
        settings=settings,
        task="languages",
        options={"count": 256, "offsets": 4, "longest": 9},
        loss="cross_entropy",
        metrics=("accuracy", "cross_entropy"),
        quality="accuracy",
        hyper={"optimiser": "adam", "learning_rate": 1e-3},
        models=1000,
        steps=20_000,
        snapshots=(0, 100, 200, 500, 1000, 2000, 5000, 10_000),
        chunk=250,
    )  # fmt: skip
    return sized(
        full,
        size,
        small={
            "models": 24, "steps": 1000, "snapshots": (0, 10, 20, 50, 100, 200, 400, 700),
            "chunk": 12, "options": {"count": 24, "offsets": 3, "longest": 7},
            "hyper": {"optimiser": "adam", "learning_rate": 5e-3},
        },
        tiny={
            "models": 3, "steps": 60, "snapshots": (0, 20),
            "settings": {**settings, "hidden": 8},
            "options": {"count": 3, "offsets": 2, "longest": 3, "test": 1},
            "hyper": {"optimiser": "adam", "learning_rate": 3e-2},
        },
    )  # fmt: skip
