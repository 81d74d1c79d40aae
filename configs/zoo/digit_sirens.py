"""One sine network for each handwritten digit, from one start or each from its own.

Networks 2-32-32-1 of 1,185 weights, frequency 10, Adam at 1e-3 for 150 steps on all 64 pixels of the
1,797 digits of scikit-learn, pixels from -1 to 1; 500 digits are held out, their networks marked by the
column `held_out`. One start for all is how published generators of implicit networks have their data
(Erkoc et al., "HyperDiffusion", 2023); with starts of their own, networks lie in orbits of their own.
Measured: 66.5 +- 3.4 dB (one start, mean cosine of two networks .94) and 67.5 +- 4.0 dB (own starts, .00).
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    hyper = {"optimiser": "adam", "learning_rate": 1e-3}
    options = {"dataset": "digits", "count": 1797, "test": 500, "low": -1.0}
    full = ZooConfig(
        name="digit_sirens",
        paper="populations as in Erkoc et al. 2023, of digits",
        architecture="siren",
        settings={"widths": (2, 32, 32, 1), "frequency": 10.0},
        task="signals",
        options=options,
        loss="mse",
        metrics=("psnr", "mse"),
        quality="psnr",
        hyper=hyper,
        models=1797,
        steps=150,
        chunk=512,
        parts={"own_starts": {}, "shared_start": {"hyper": {**hyper, "seed": 0}}},
    )
    tiny = {"models": 40, "steps": 100, "options": {**options, "count": 40, "test": 12}}
    return sized(full, size, small={}, tiny=tiny)
