"""One sine network for each image of MNIST, all from one start.

Networks 2-32-32-1 of 1,185 weights, Adam at 1e-3 on all 784 pixels, which are from -1 to 1; the last 1,000 are
of the test part of the data, their networks marked by the column `held_out`. One start for all is how published
generators of implicit networks have their data (Erkoc et al., "HyperDiffusion", 2023). Without files of MNIST the
digits of scikit-learn, resized to 28 x 28, stand in.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    options = {"dataset": "mnist", "size": 28, "count": 60_000, "test": 1000, "low": -1.0}
    full = ZooConfig(
        name="mnist_sirens",
        paper="populations as in Erkoc et al. 2023, of MNIST",
        architecture="siren",
        settings={"widths": (2, 32, 32, 1), "frequency": 20.0},
        task="signals",
        options=options,
        loss="mse",
        metrics=("psnr", "mse"),
        quality="psnr",
        hyper={"optimiser": "adam", "learning_rate": 1e-3, "seed": 0},
        models=60_000,
        steps=400,
        chunk=512,
    )
    small = {"models": 6000, "options": {**options, "count": 6000}}
    tiny = {"models": 60, "steps": 60, "options": {**options, "size": 14, "count": 60, "test": 10}}
    return sized(full, size, small=small, tiny=tiny)
