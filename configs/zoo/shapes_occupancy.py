"""Three-dimensional shapes as occupancies: inside or outside, by coordinates.

Source: HyperDiffusion (Erkoç et al. 2023) for the networks, dense 3 x 128 with ReLU and a positional
encoding; Implicit-Zoo (Ma et al. 2024) for zoos of shapes. Departures: the shapes are generated
(spheres, boxes, tori and unions of two, of random place, size and turn) where they have ShapeNet and
OmniObject3D; samples are a regular grid of 32^3 points; Adam at 1e-3, 4 octaves, 2,000 steps.
`iou` is intersection over union on the grid, `shape` the kind.
"""

from configs.zoo._config import ZooConfig, sized


def get_config(size: str = "small") -> ZooConfig:
    """The zoo at a size: "tiny", "small" or "full"."""
    full = ZooConfig(
        name="shapes_occupancy",
        paper="Erkoç et al. 2023 and Ma et al. 2024, occupancies",
        architecture="field",
        settings={"widths": (3, 128, 128, 128, 1), "octaves": 4},
        task="shapes",
        options={"count": 1000, "points": 32, "field": "occupancy"},
        loss="binary_cross_entropy",
        metrics=("binary_cross_entropy",),
        quality="iou",
        hyper={"optimiser": "adam", "learning_rate": 1e-3},
        models=1000,
        steps=2000,
        batch_size=4096,
        chunk=64,
    )
    return sized(
        full,
        size,
        small={
            "models": 48, "steps": 500, "chunk": 24, "batch_size": 512,
            "settings": {"widths": (3, 32, 32, 32, 1), "octaves": 3},
            "options": {**full.options, "points": 20},
        },
        tiny={
            "models": 4, "steps": 60, "batch_size": 256,
            "settings": {"widths": (3, 16, 16, 1), "octaves": 2},
            "hyper": {"optimiser": "adam", "learning_rate": 1e-2},
            "options": {**full.options, "points": 10},
        },
    )  # fmt: skip
