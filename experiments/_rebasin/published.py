"""Published figures, beside which rows of the same setting are put.

K. Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023: the outputs
saved in the notebook Train-and-Permute-MNIST-MLP-NoBatchNorm of github.com/KellerJordan/REPAIR (commit a20219f).
One pair of MLPs with 7 hidden layers of 128 on MNIST, 50 epochs in batches of 1000, SGD with momentum 0.9, a
rate that rises to 0.05 in 5 epochs and falls to 0; matched by correlations of activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCE = "REPAIR (Jordan et al. 2023), saved outputs of Train-and-Permute-MNIST-MLP-NoBatchNorm"
PUBLISHED: dict[str, dict[str, tuple[float, str]]] = {
    "MLP 128, 7 layers, as in REPAIR": {
        "ends / train_accuracy": (0.9988, SOURCE),
        "ends / train_loss": (0.0068, SOURCE),
        "ends / test_accuracy": (0.9655, SOURCE),
        "ends / test_loss": (0.2214, SOURCE),
        "activation matching / train_accuracy midpoint": (0.7206, SOURCE),
        "activation matching / train_loss midpoint": (0.9437, SOURCE),
        "activation matching / test_accuracy midpoint": (0.7168, SOURCE),
        "activation matching / test_loss midpoint": (0.9677, SOURCE),
        "activation matching, REPAIR / train_accuracy midpoint": (0.8371, SOURCE),
        "activation matching, REPAIR / train_loss midpoint": (0.7954, SOURCE),
        "activation matching, REPAIR / test_accuracy midpoint": (0.8296, SOURCE),
        "activation matching, REPAIR / test_loss midpoint": (0.8877, SOURCE),
    }
}


def beside(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every published figure of which there is one of ours, with ours."""
    out = []
    for row, figures in PUBLISHED.items():
        for score, (value, source) in figures.items():
            ours = rows.get(row, {}).get("scores", {}).get(score)
            if ours is not None:
                out.append(
                    {"row": row, "score": score, "ours": ours["mean"], "interval": ours["interval"],
                     "published": value, "source": source}
                )  # fmt: skip
    return out
