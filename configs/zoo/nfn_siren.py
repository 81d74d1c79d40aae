"""Several SIRENs for each image, as the NFN data have them.

Source: Zhou et al., "Permutation equivariant neural functionals", 2023, and its files: sine networks
with random starts, 10 for an image of MNIST or Fashion-MNIST (20 for CIFAR-10), 2-32-32-1, frequency
30, no offset, images in [-1, 1], coordinates in the order of the axes.

From memory of the paper: 5,000 steps. Departures: Adam at 1e-4 is chosen here. `psnr` is of the
range of 2 that the images have.
"""

from configs.zoo._config import ZooConfig, sized

FITS = 10


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    options = {"dataset": "mnist", "size": 28, "low": -1.0, "order": "ij"}
    full = ZooConfig(
        name="nfn_siren",
        paper="Zhou et al. 2023, MNIST INRs with 10 fits an image",
        architecture="siren",
        settings={"widths": (2, 32, 32, 1), "frequency": 30.0},
        task="signals",
        options={**options, "count": 60_000},
        loss="mse",
        metrics=("mse",),
        quality="psnr",
        hyper={"optimiser": "adam", "learning_rate": 1e-4},
        models=60_000 * FITS,
        steps=5000,
        chunk=512,
    )
    return sized(
        full,
        size,
        small={
            "models": 8 * FITS, "chunk": 40, "options": {**options, "count": 8}, "steps": 1000,
            "hyper": {"optimiser": "adam", "learning_rate": 5e-4},
        },
        tiny={
            "models": 6, "steps": 60, "options": {**options, "size": 16, "count": 3},
            "hyper": {"optimiser": "adam", "learning_rate": 1e-3},
        },
    )  # fmt: skip
