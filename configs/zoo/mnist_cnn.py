"""MNIST zoos: networks of 2,464 weights that differ in seed, or in hyperparameters.

Source: Schürholt et al. 2021 and 2022; architecture in `_small_cnn.py`. 1,000 networks in each part,
50 epochs: "seed" (Adam, one setting), "hyp_rand" (a grid over activation, initialiser, optimiser,
learning rate, weight decay and dropout, every network with a seed of its own) and "hyp_fix" (the
same with ten seeds for all).

From memory of the papers: what the grids vary, Adam at 3e-4 in the first part, the epochs. Departures:
initialisers are those of this library ("uniform" and "normal" are 0.05 wide); the grid is gone
through at random until there are 1,000 networks; snapshots at six epochs where the papers keep every
one; batches are drawn with replacement. Without files of MNIST the digits of scikit-learn, resized to
28 x 28, stand in.
"""

from configs.zoo._config import ZooConfig
from configs.zoo._small_cnn import small_cnn_zoo


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    return small_cnn_zoo("mnist_cnn", "Schürholt et al. 2021, 2022, MNIST zoos", "mnist", size)
