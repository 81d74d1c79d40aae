"""What is measured of the networks of one row: the library's audit, and the images that sine networks draw."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.generation import Study
from experiments._generation.zoos import GeneratedFrom
from wsljax.generation import evaluation
from wsljax.generation.evaluation import Audit
from wsljax.train.metrics import Interval

HIDDEN, STEPS = 64, 400


class Judge:
    """Training and held-out networks of a study, measured once; calling it measures others.

    Args:
        study: what is studied.
        opened: its networks.
        resamples: of bootstrap intervals.
    """

    def __init__(self, study: Study, opened: GeneratedFrom, resamples: int):
        options = opened.audit_options()
        if opened.images is not None:
            assert opened.labels is not None
            classify = classifier(opened.images[0], opened.labels[0])
            training, row, points = opened.training, opened.training.row(0), opened.points

            def classes(params: Any) -> jax.Array:
                image = training.function.apply(params, points, row).reshape(-1)
                return jax.nn.softmax(classify(image))

            def confidence(params: Any) -> jax.Array:
                return classes(params).max()

            options["scores"] = {"confidence": confidence}
            self.classes = jax.jit(jax.vmap(classes))
        self.zoo = opened
        self.audit = Audit(
            opened.training, opened.held_out, key=jax.random.key(3), resamples=resamples,
            diversity=study.diversity, candidates=study.candidates, **options,
        )  # fmt: skip

    def __call__(
        self, networks: Any, name: str, held_out: bool = False, asked: np.ndarray | None = None
    ) -> dict[str, Any]:
        """`scores`, `intervals` and `flags`.

        Args:
            networks: stacked.
            name: of the row.
            held_out: whether they are the held-out networks.
            asked: the classes that they were asked to draw.
        """
        report = self.audit.held_out_report() if held_out else self.audit.report(networks, name)
        values: dict[str, Interval] = dict(report.values)
        scores = {n: v.value for n, v in values.items()}
        if self.zoo.images is not None:
            scores |= self._of_images(networks, held_out)
            if held_out:
                assert self.zoo.labels is not None
                asked = self.zoo.labels[1]
            scores |= self._of_classes(networks, asked)
        return {
            "scores": {n: float(v) for n, v in scores.items() if np.isfinite(v)},
            "intervals": {n: [v.low, v.high] for n, v in values.items() if np.isfinite(v.low)},
            "flags": list(report.flags),
        }

    def _of_classes(self, networks: Any, asked: np.ndarray | None) -> dict[str, float]:
        """What a classifier sees in the images: as asked, and how many of each class.

        "images/as asked" is the share that it puts in the class that was asked for, "images/rarest class"
        the share of the class that is seen most rarely, times the number of classes.
        """
        told = np.asarray(self.classes(jax.tree.map(jnp.asarray, networks)))
        seen = np.nan_to_num(told).argmax(-1)
        count = np.bincount(seen, minlength=told.shape[-1])
        found = {"images/rarest class": float(count.min() / len(seen) * told.shape[-1])}
        if asked is not None:
            found["images/as asked"] = float((seen == asked).mean())
        return found

    def _of_images(self, networks: Any, held_out: bool) -> Mapping[str, float]:
        """What networks draw, beside images that no training network was fitted to.

        Held-out networks draw just these: one half of them is compared with the other half's images.
        """
        assert self.zoo.images is not None
        drawn = self.drawings(networks)
        training, unseen = self.zoo.images
        half = len(drawn) // 2 if held_out else 0
        return of_images(drawn[half:], training, unseen[: half or None], self._usual)

    @cached_property
    def _usual(self) -> float:
        assert self.zoo.images is not None
        return usual_distance(self.zoo.images[0])

    def pictures(self, networks: Any) -> np.ndarray:
        """What sine networks draw, with the range of the training images brought to 0 to 1."""
        assert self.zoo.images is not None
        low, high = self.zoo.images[0].min(), self.zoo.images[0].max()
        return (self.drawings(networks) - low) / (high - low)

    def drawings(self, networks: Any) -> np.ndarray:
        """What sine networks draw, `(n, pixels)`; finite."""
        population = self.zoo.training
        many = jax.vmap(lambda p: population.function.apply(p, self.zoo.points, population.row(0)))
        drawn = np.asarray(jax.jit(many)(jax.tree.map(jnp.asarray, networks)))
        drawn = np.nan_to_num(drawn.reshape(len(drawn), -1), nan=1e3, posinf=1e3, neginf=-1e3)
        return np.clip(drawn, -1e3, 1e3)


def usual_distance(images: np.ndarray) -> float:
    """The median distance of images to the nearest other one."""
    among = evaluation.euclidean(images, images)
    np.fill_diagonal(among, np.inf)
    return float(np.median(among.min(1)))


def of_images(
    drawn: np.ndarray, training: np.ndarray, unseen: np.ndarray, usual: float | None = None
) -> dict[str, float]:
    """1-NNA, coverage and MMD of as many drawn as unseen images, none left out, and the copy ratio.

    The copy ratio is the median distance to the nearest training image, over that of training images to
    each other (`usual`, which is measured if it is not given).
    """
    usual = usual_distance(training) if usual is None else usual
    size = min(len(drawn), len(unseen))
    some, reference = drawn[:size], unseen[:size]
    far = evaluation.euclidean
    across = far(some, reference)
    told = evaluation.nearest_neighbour_accuracy(far(some, some), far(reference, reference), across)
    return {
        "images/1-NNA": float(told.mean()),
        "images/coverage": float(evaluation.coverage(across).mean()),
        "images/MMD": float(evaluation.minimum_matching(across).mean()),
        "images/copy ratio": float(np.median(far(drawn, training).min(1))) / usual,
    }


def classifier(images: np.ndarray, labels: np.ndarray) -> Any:
    """A dense network that tells the digit of an image, trained on those of training networks alone."""
    keys = jax.random.split(jax.random.key(4), 2)
    x, y = jnp.asarray(images, jnp.float32), jnp.asarray(labels)
    params = {
        "a": jax.random.normal(keys[0], (x.shape[1], HIDDEN)) * (2 / x.shape[1]) ** 0.5,
        "b": jnp.zeros(HIDDEN),
        "c": jax.random.normal(keys[1], (HIDDEN, 10)) * (2 / HIDDEN) ** 0.5,
    }

    def apply(p: Any, image: jax.Array) -> jax.Array:
        return jax.nn.relu(image @ p["a"] + p["b"]) @ p["c"]

    optimiser = optax.adam(3e-3)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        p, state = carry
        loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(apply(p, x), y).mean()  # noqa: E731
        updates, state = optimiser.update(jax.grad(loss)(p), state)
        return (optax.apply_updates(p, updates), state), None

    carry = params, optimiser.init(params)
    (found, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, None, length=STEPS))(carry)
    return lambda image: apply(found, image)
