"""Images and the networks that were fitted to them: what the studies of drawings read.

The images are split, and their networks with them: all networks of an image are in one part.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs._metanetworks import Drawings, Entry
from experiments._metanetworks.learn import Part
from experiments._metanetworks.learnt_start import fit_all, learn_start
from experiments._metanetworks.populations import place, population
from wsljax import train, zoo

KINDS = ("permutation", "sign", "phase")
"""Symmetry of networks of sines."""


class Chosen(NamedTuple):
    """The networks of one entry.

    Attributes:
        params: of training, validation and test, `(networks, ...)`.
        images: the image of each, likewise.
        start: where all of them were fitted from, or None.
        psnr: how well they draw, in decibels.
    """

    params: tuple[Any, Any, Any]
    images: tuple[np.ndarray, np.ndarray, np.ndarray]
    start: Any
    psnr: float

    def parts(self, targets: np.ndarray) -> tuple[Part, Part, Part]:
        """With the targets of their images, `(images, ...)`."""
        every = zip(self.params, self.images, strict=True)
        first, second, third = (Part(params, targets[which]) for params, which in every)
        return first, second, third


class ImageFits:
    """Networks of images, opened or fitted when an entry asks for them.

    Attributes:
        function, spec: of the networks.
        points: `(pixels, coordinates)`.
        signals: `(images, pixels, channels)`.
        labels: `(images,)`.
        parts: images of training, validation and test.
    """

    def __init__(
        self, options: Drawings, folder: Path, *, seed: int, data: Any = None, quiet: bool = False
    ):
        """Open the networks of one start for each image, or fit them.

        Args:
            options: which images, and how they are fitted.
            folder: where networks are kept.
            seed: of fits and of the split.
            data: a folder of image files.
            quiet: no bars and tables.
        """
        self.options, self.folder, self.seed = options, folder, seed
        self.data, self.quiet = data, quiet
        first = self._population(options.images, seed)
        self.function, self.spec = first.function, first.spec
        measured = zoo.open(self._place(options.images, seed) / "networks").evaluation
        assert measured is not None  # build_zoo keeps what it measures on
        self.points, signals = np.asarray(measured.inputs), np.asarray(measured.targets)
        self.signals = signals[: int(np.max(first.columns["image"])) + 1]
        self.labels = np.zeros(len(self.signals), np.int32)
        self.labels[np.asarray(first.columns["image"])] = np.asarray(first.columns["label"])
        self.parts = self._split(first)
        self._first = first
        self._kept: dict[tuple[int, str], Chosen] = {}

    def _split(self, first: zoo.Population) -> tuple[np.ndarray, ...]:
        key, fractions = jax.random.key(self.seed), self.options.fractions
        if "held_out" not in first.columns:
            found = zoo.split(len(self.signals), fractions, key=key)
            return tuple(np.asarray(part) for part in found)
        images, held = (np.asarray(first.columns[n]) for n in ("image", "held_out"))
        third = np.unique(images[held > 0])
        rest = np.asarray(jax.random.permutation(key, np.unique(images[held == 0])))
        cut = round(len(rest) * fractions[0] / (fractions[0] + fractions[1]))
        return np.sort(rest[:cut]), np.sort(rest[cut:]), third

    def of(self, entry: Entry) -> Chosen:
        """The networks that an entry wants.

        Raises:
            ValueError: more views than there are, or views of networks of one start, which are equal.
        """
        wanted = entry.views, entry.start
        if entry.start not in ("own", "learnt"):
            raise ValueError(f"`start` is 'own' or 'learnt'; got {entry.start!r}")
        if not 1 <= entry.views <= (self.options.views if entry.start == "own" else 1):
            raise ValueError(
                f"{entry.views} views of a start {entry.start!r}: there are {self.options.views} "
                "of 'own' starts (`Drawings.views`) and 1 of a learnt one"
            )
        if wanted not in self._kept:
            self._kept[wanted] = self._learnt() if entry.start == "learnt" else self._own(*wanted)
        return self._kept[wanted]

    def pixels(self, signals: Any) -> np.ndarray:
        """Signals `(n, pixels, channels)` as images `(n, height, width, channels)`."""
        side = round(self.points.shape[0] ** 0.5)
        return np.asarray(signals).reshape(len(signals), side, side, -1)

    def _own(self, views: int, start: str) -> Chosen:
        images = np.asarray(self._first.columns["image"])
        rows = [np.flatnonzero(np.isin(images, part)) for part in self.parts]
        params = [self._first.take(r).params for r in rows]
        which = [images[r] for r in rows]
        if views > 1:
            count = len(self.signals)
            others = self._population((self.options.views - 1) * count, self.seed + 1)
            image = np.asarray(others.columns["image"])
            more = np.asarray(others.columns["run"]) < (views - 1) * count
            more &= np.isin(image, self.parts[0])
            params[0] = jax.tree.map(
                lambda a, b: np.concatenate([a, b]), params[0], others.take(more).params
            )
            which[0] = np.concatenate([which[0], image[more]])
        psnr = float(np.mean(self._first.columns["psnr"]))
        return Chosen(tuple(params), tuple(which), None, psnr)  # pyright: ignore[reportArgumentType]

    def _learnt(self) -> Chosen:
        """Fits from a start that is learnt of the training images; kept in the folder."""
        options, where = self.options.learnt, self.folder / f"{self.options.dataset}_learnt_start"
        said = json.dumps(
            {"drawings": dataclasses.asdict(self.options), "seed": self.seed}, default=str
        )
        file = where / "about.json"
        if not file.exists() or file.read_text() != said:
            part = self.parts[0]
            bar = train.progress(
                options.steps, "learnt start", enabled=False if self.quiet else None
            )
            with bar as log:
                start = learn_start(
                    self.function, self.points, self.signals[part], self.labels[part], options,
                    key=jax.random.key(self.seed), log=log,
                )  # fmt: skip
            params, errors = fit_all(
                self.function, self.points, self.signals, start, options.fit_steps
            )
            fits = zoo.Population(params, {"mse": errors}, self.spec, function=self.function)
            one = zoo.Population(jax.tree.map(lambda x: np.asarray(x)[None], start.params), {})
            zoo.save(fits, where / "fits", overwrite=True)
            zoo.save(one, where / "start", overwrite=True)
            file.write_text(said)
        fits = zoo.open(where / "fits").population()
        start = zoo.open(where / "start").population()[0]
        params = tuple(fits.take(part).params for part in self.parts)
        span = float(np.ptp(self.signals))
        psnr = np.mean(10 * np.log10(span**2 / np.maximum(fits.columns["mse"], 1e-12)))
        return Chosen(params, self.parts, start, float(psnr))  # pyright: ignore[reportArgumentType]

    def _changes(self, models: int, seed: int) -> Mapping[str, Any]:
        options = self.options
        chosen = {"dataset": options.dataset, "count": options.images}
        chosen |= {"test": options.test} if options.test else {}
        return {**options.changes, "models": models, "seed": seed, "options": chosen}

    def _population(self, models: int, seed: int) -> zoo.Population:
        return population(
            self.options.zoo, size=self.options.zoo_size, folder=self.folder, data=self.data,
            quiet=self.quiet, changes=self._changes(models, seed), kinds=KINDS,
        )  # fmt: skip

    def _place(self, models: int, seed: int) -> Path:
        return place(
            self.options.zoo, self.options.zoo_size, self.folder, self._changes(models, seed)
        )
