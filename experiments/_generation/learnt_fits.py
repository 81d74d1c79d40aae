"""Sine networks of images, all a few gradient steps from one start that is learnt.

Weights of such fits lie near a space of few dimensions, as the images do: a few steps change them almost linearly.
Nothing is read of the held-out images but their own fits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs._metanetworks import LearntStart
from experiments._metanetworks.learnt_start import fit_all, learn_start
from experiments._zoo import data as sources
from wsljax import symmetry, train, zoo

SETTINGS = {"widths": (2, 32, 32, 1), "frequency": 30.0, "offset": 0.5}
#: Images, of them held out (of the test part of the data), pixels a side, steps of learning the start.
SIZES = {
    "tiny": (80, 20, 14, 200),
    "small": (12_000, 2000, 28, 2000),
    "full": (70_000, 10_000, 28, 20_000),
}


def learnt_fits(
    folder: Path, *, data: Any, size: str, models: int | None, seed: int, quiet: bool
) -> tuple[zoo.Population, np.ndarray, np.ndarray]:
    """Networks of images of MNIST, fitted in seconds where they are not kept.

    Returns:
        `(networks, points, images)`: with columns `run`, `step`, `image`, `label`, `held_out` and `mse`;
        `(pixels, 2)`; `(images, pixels)` in [0, 1].
    """
    count, unseen, side, steps = SIZES[size]
    count = count if models is None else models
    found = sources.images(
        "mnist", sources.data_folder(data), size=side, train=count - unseen, test=unseen
    )
    signals = np.concatenate([found.train_x, found.test_x]).reshape(-1, side * side, 1)
    labels = np.concatenate([found.train_y, found.test_y])
    points = zoo.grid(side, side, order="xy")
    function = zoo.Function("siren", SETTINGS)
    where = folder / f"mnist_learnt_{size}_{len(signals)}_{seed}"
    said = json.dumps({"source": found.source, "settings": SETTINGS, "steps": steps})
    if not (where / "about.json").exists() or (where / "about.json").read_text() != said:
        options, part = LearntStart(steps=steps, guidance=0.0), slice(len(found.train_x))
        with train.progress(steps, "learnt start", enabled=False if quiet else None) as log:
            start = learn_start(
                function, points, signals[part], labels[part], options,
                key=jax.random.key(seed), log=log,
            )  # fmt: skip
        params, errors = fit_all(function, points, signals, start, options.fit_steps)
        every = np.arange(len(signals))
        columns = {
            "run": every, "step": np.full(len(every), options.fit_steps), "image": every,
            "label": labels, "held_out": (every >= len(found.train_x)).astype(np.int32), "mse": errors,
        }  # fmt: skip
        zoo.save(zoo.Population(params, columns, function=function), where / "fits", overwrite=True)
        (where / "about.json").write_text(said)
    networks = zoo.open(where / "fits").population()
    spec = symmetry.infer(
        networks.function.apply, networks[0], points[:: max(1, len(points) // 16)][:16],
        kinds=("permutation", "sign"),
    )  # fmt: skip
    return networks.with_spec(spec), points, signals[..., 0]
