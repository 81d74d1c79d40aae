"""Fashion-MNIST zoos: networks of 2,464 weights that differ in seed, or in hyperparameters.

Source: Schürholt et al. 2021 and 2022; all as in `mnist_cnn.py`, with its departures, on
Fashion-MNIST. Without its files the digits of scikit-learn stand in, and the zoo is that of
`mnist_cnn.py` but for its folder.
"""

from configs.zoo._config import ZooConfig
from configs.zoo._small_cnn import small_cnn_zoo


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    paper = "Schürholt et al. 2021, 2022, Fashion-MNIST zoos"
    return small_cnn_zoo("fashion_cnn", paper, "fashion_mnist", size)
