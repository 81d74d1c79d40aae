"""One SIREN for each image of MNIST, as the DWSNets data have them.

Source: Navon et al., "Equivariant architectures for learning in deep weight spaces", 2023, its files,
and what its authors say of them (their repository, threads 6 and 7): sine networks 2-32-32-1 of 1,185
weights, frequency 30 in all layers, output plus 0.5, coordinates x first on a grid in [-1, 1], images
in [0, 1], one network of its own start for each image. The first layer starts as the hidden ones do,
biases of sines at zero, the last layer as a linear layer of torch; 1,000 steps of Adam at 5e-4, or
until 40 dB are reached.

The files' weights have deviations of .063, .018, .118 in the three layers, ours .057, .016, .118; the one
network of theirs that is at hand has 24.3 dB, 8,000 of ours 23.4 +- 1.6. How they start matters more
than how well they draw: from SIREN's own start (`"initialiser": "siren"`: a first layer five times as
wide, random phases) weights are mostly their start, and what reads them learns several times slower.
Without files of MNIST the digits of scikit-learn, resized to 28 x 28, stand in; they are smoother, so
easier.
"""

from configs.zoo._config import ZooConfig, sized

LEARNING_RATE = 5e-4


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="dws_siren",
        paper="Navon et al. 2023, MNIST INRs",
        architecture="siren",
        settings={"widths": (2, 32, 32, 1), "frequency": 30.0, "offset": 0.5, "initialiser": "dws"},
        task="signals",
        options={"dataset": "mnist", "size": 28, "count": 60_000},
        loss="mse",
        metrics=("psnr", "mse"),
        quality="psnr",
        hyper={"optimiser": "adam", "learning_rate": LEARNING_RATE},
        models=60_000,
        steps=1000,
        stop_psnr=40.0,
        chunk=512,
    )
    return sized(
        full,
        size,
        small={"models": 256, "chunk": 32, "options": {**full.options, "count": 256}},
        tiny={
            "models": 4, "steps": 60, "options": {"dataset": "mnist", "size": 16, "count": 4},
            "hyper": {"optimiser": "adam", "learning_rate": 1e-3},
        },
    )  # fmt: skip
