"""One SIREN for each image of MNIST, from SIREN's own start: nearly all of its weights are that start.

The networks of `dws_siren` (Navon et al. 2023) but for how they start, kernels and biases as Sitzmann et
al. 2020 have them, and the rate of Adam, 5e-5, which draws as well (24.8 +- 2.0 dB): random phases and
a wide first layer, so that little in the weights tells the image. The harder case for what reads weights.
"""

import dataclasses

from configs.zoo import dws_siren
from configs.zoo._config import ZooConfig


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    base = dws_siren.get_config(size)
    hyper = base.hyper if size == "tiny" else {**base.hyper, "learning_rate": 5e-5}
    return dataclasses.replace(
        base, name="mnist_sirens", hyper=hyper, stop_psnr=None,
        settings={**base.settings, "initialiser": "siren"},
    )  # fmt: skip
