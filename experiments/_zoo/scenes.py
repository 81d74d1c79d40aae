"""Tasks in space: procedural shapes as fields, and coloured scenes as seen by cameras."""

from __future__ import annotations

import numpy as np

from experiments._zoo.tasks import Task
from wsljax import zoo

KINDS = ("sphere", "box", "torus", "union")
LIGHT = np.array([0.5, 0.8, 0.33]) / np.linalg.norm([0.5, 0.8, 0.33])


def shapes(folder, *, models, seed, count: int, points: int = 16, field: str = "occupancy") -> Task:
    """Shapes as functions of space: spheres, boxes, tori, and unions of two of them.

    Args:
        count: shapes, at most; each network has its own.
        points: samples along each axis of [-1, 1]^3.
        field: "occupancy", 1 inside and 0 outside, or "sdf": the signed distance, cut at 0.5 on
            both sides.

    Raises:
        ValueError: another field.
    """
    if field not in ("occupancy", "sdf"):
        raise ValueError(f"field: {field!r}; 'occupancy' or 'sdf'.")
    places, rng = zoo.grid(points, points, points, order="ij"), np.random.default_rng(seed)
    count = min(count, models)
    kinds = np.arange(count) % len(KINDS)
    fields = []
    for kind in kinds:
        chosen = rng.integers(0, 3, 2) if KINDS[kind] == "union" else [kind]
        fields.append(np.min([_distance(KINDS[k], places, rng) for k in chosen], axis=0))
    distance = np.stack(fields)[..., None]
    targets = distance < 0 if field == "occupancy" else np.clip(distance, -0.5, 0.5)
    columns = {"shape": kinds.astype(np.int32)}
    return Task(
        "generated shapes", places, ("shape_index", targets.astype(np.float32)),
        (places, targets.astype(np.float32)), None, columns, {"shape": KINDS},
        binary=field == "occupancy",
    )  # fmt: skip


def scenes(
    folder, *, models, seed, count: int, views: int = 8, test: int = 2, pixels: int = 16
) -> Task:
    """Scenes of one to three coloured spheres and boxes under a light, before white.

    The inputs are rays `(origin, direction)` of cameras on a sphere of radius 1.5 that look at its
    middle, and the same for all scenes; the targets are the colours they see.

    Args:
        count: scenes, at most; each network has its own.
        views: cameras to train on.
        test: cameras that are measured.
        pixels: of a camera, a side.
    """
    rng, count = np.random.default_rng(seed), min(count, models)
    train_rays, test_rays = (
        np.concatenate([_camera(place, pixels) for place in _places(number, turn)])
        for number, turn in ((views, 0.0), (test, 0.5))
    )
    numbers = rng.integers(1, 4, count)
    worlds = [[_object(rng) for _ in range(number)] for number in numbers]
    seen = [
        np.stack([trace(world, rays) for world in worlds]).astype(np.float32)
        for rays in (train_rays, test_rays)
    ]
    columns = {"objects": numbers.astype(np.int32)}
    return Task(
        "generated scenes", train_rays, ("scene", seen[0]), (test_rays, seen[1]),
        (train_rays, seen[0]), columns,
    )  # fmt: skip


def trace(world: list[dict], rays: np.ndarray) -> np.ndarray:
    """The colours `(n, 3)` that rays `(n, 6)` see: the nearest surface, lit from one side.

    >>> ball = {"kind": "sphere", "middle": np.zeros(3), "size": np.full(3, 0.5),
    ...         "colour": np.array([1.0, 0.0, 0.0])}
    >>> rays = np.array([[0, 0, 2.0, 0, 0, -1.0], [0, 0.9, 2.0, 0, 0, -1.0]])
    >>> trace([ball], rays).round(2).tolist()
    [[0.53, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    origin, direction = rays[:, :3], rays[:, 3:]
    nearest, colour = np.full(len(rays), np.inf), np.ones((len(rays), 3))
    for thing in world:
        depth, normal = (_sphere if thing["kind"] == "sphere" else _box)(thing, origin, direction)
        bright = 0.3 + 0.7 * np.clip(normal @ LIGHT, 0, 1)
        closer = depth < nearest
        colour[closer] = (bright[:, None] * thing["colour"])[closer]
        nearest[closer] = depth[closer]
    return colour


def _sphere(thing: dict, origin: np.ndarray, direction: np.ndarray) -> tuple:
    to, radius = origin - thing["middle"], thing["size"][0]
    half, rest = np.sum(to * direction, -1), np.sum(to * to, -1) - radius**2
    inside = half**2 - rest
    depth = -half - np.sqrt(np.maximum(inside, 0))
    depth = np.where((inside > 0) & (depth > 0), depth, np.inf)
    at = np.where(np.isfinite(depth), depth, 0)[:, None]
    return depth, (to + at * direction) / radius


def _box(thing: dict, origin: np.ndarray, direction: np.ndarray) -> tuple:
    slow = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    near, far = ((thing["middle"] + side * thing["size"] - origin) / slow for side in (-1, 1))
    near, far = np.minimum(near, far), np.maximum(near, far)
    axis, depth = np.argmax(near, -1), near.max(-1)
    depth = np.where((depth < far.min(-1)) & (depth > 0), depth, np.inf)
    return depth, -np.sign(slow) * np.eye(3)[axis]


def _object(rng: np.random.Generator) -> dict:
    return {
        "kind": ("sphere", "box")[rng.integers(2)],
        "middle": rng.uniform(-0.35, 0.35, 3),
        "size": np.full(3, rng.uniform(0.2, 0.4)),
        "colour": rng.uniform(0.1, 1.0, 3),
    }


def _places(number: int, turn: float) -> np.ndarray:
    """Points on a sphere of radius 1.5, on a spiral."""
    k = np.arange(number) + turn
    y = np.linspace(-0.5, 0.8, number) if number > 1 else np.array([0.2])
    around, angle = np.sqrt(1 - y**2), k * np.pi * (3 - np.sqrt(5))
    return 1.5 * np.stack([around * np.cos(angle), y, around * np.sin(angle)], -1)


def _camera(place: np.ndarray, pixels: int) -> np.ndarray:
    """Rays `(pixels^2, 6)` from a place towards the middle, 50 degrees wide."""
    ahead = -place / np.linalg.norm(place)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    wide = np.tan(np.radians(25)) * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    v, u = np.meshgrid(-wide, wide, indexing="ij")
    direction = ahead + u.reshape(-1, 1) * right + v.reshape(-1, 1) * up
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    origin = np.broadcast_to(place, direction.shape)
    return np.concatenate([origin, direction], -1).astype(np.float32)


def _distance(kind: str, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signed distances to a shape of random place, size and turn."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    p = (points - rng.uniform(-0.3, 0.3, 3)) @ turn
    if kind == "sphere":
        return np.linalg.norm(p, axis=-1) - rng.uniform(0.25, 0.6)
    if kind == "box":
        q = np.abs(p) - rng.uniform(0.2, 0.5, 3)
        return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)
    ring = np.hypot(p[:, 0], p[:, 1]) - rng.uniform(0.35, 0.55)
    return np.hypot(ring, p[:, 2]) - rng.uniform(0.12, 0.22)


TASKS = {"shapes": shapes, "scenes": scenes}
