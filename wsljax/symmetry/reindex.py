"""The order of a reindexed axis: from text to coordinates, back, and its longest runs.

An order of ``n`` coordinates is a tuple ``c`` with every number of ``range(n)`` once; in text, ints
and slices of ``range(n)`` one after the other, as in ``numpy.r_``.

Example:
    >>> read_order("::2,1::2", 6)
    (0, 2, 4, 1, 3, 5)
    >>> order_text((1, 2, 3, 0))
    '1:,0'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_ITEM = re.compile(r"-?\d+|(-?\d+)?:(-?\d+)?(:(-?\d+)?)?")


class Run(NamedTuple):
    """The coordinates ``start, start + step, ...``, ``length`` of them."""

    start: int
    step: int
    length: int


def check_text(text: str) -> str:
    """``text`` without spaces.

    Raises:
        ValueError: where it is not a list of ints and slices.
    """
    tight = re.sub(r"\s+", "", text)
    for item in tight.split(","):
        if not _ITEM.fullmatch(item):
            raise ValueError(
                f"cannot read {item!r} in {{{tight}}}; write ints and slices, as in '{{1:,0}}'"
            )
    return tight


def read_order(text: str, size: int) -> tuple[int, ...]:
    """The coordinates that ``text`` lists of ``range(size)``; negative ones count from the end.

    Raises:
        ValueError: if a coordinate is out of range, missing, or listed twice.
    """
    order: list[int] = []
    for item in check_text(text).split(","):
        numbers = [int(w) if w else None for w in item.split(":")]
        bounds = numbers if len(numbers) == 1 else numbers[:2]
        for b in bounds:
            if b is not None and not -size <= b < size + (len(numbers) > 1):
                raise ValueError(f"{b} in {{{text}}} is out of range for an axis of size {size}")
        if len(numbers) == 1:
            order.append(range(size)[numbers[0]])  # type: ignore[index]
        elif numbers[2:] == [0]:
            raise ValueError(f"{item!r} in {{{text}}}: the step of a slice cannot be 0")
        else:
            order += range(size)[slice(*numbers)]
    check_order(order, size)
    return tuple(order)


def check_order(order: Sequence[int], size: int) -> None:
    """Check that ``order`` lists every coordinate of ``range(size)`` once.

    Raises:
        ValueError: saying which coordinate is missing, listed twice or out of range.
    """
    if len(order) != size:
        raise ValueError(f"the order lists {len(order)} coordinates, the axis has {size}")
    missing = set(range(size)) - set(order)
    if missing:
        wrong = next(c for i, c in enumerate(order) if not 0 <= c < size or c in order[:i])
        raise ValueError(
            f"the order is not a permutation of range({size}): {min(missing)} is missing, "
            f"{wrong} is {'there twice' if 0 <= wrong < size else 'out of range'}"
        )


def order_text(order: Sequence[int]) -> str:
    """The text of an order, its longest runs as slices; :func:`read_order` gives ``order`` back.

    >>> order_text((3, 0, 2, 1)), order_text((4, 3, 2, 1, 0)), order_text((0, 1, 4, 2, 3))
    ('3,0,2,1', '::-1', ':2,4,2:4')
    """
    if not order:
        return ":"
    return ",".join(_run_text(run, len(order)) for run in runs(order))


def _run_text(run: Run, size: int) -> str:
    start, step, length = run
    if length == 1:
        return str(start)
    last = start + step * (length - 1)
    first = "" if start == (0 if step > 0 else size - 1) else str(start)
    ends = len(range(size)[start::step]) == length
    stop = "" if ends else str(last + (1 if step > 0 else -1))
    return f"{first}:{stop}" + ("" if step == 1 else f":{step}")


def runs(order: Sequence[int]) -> list[Run]:
    """``order`` cut into arithmetic runs, from the left, each as long as it goes.

    Runs of fewer than three coordinates are cut into single ones, but for two neighbours ``i, i + 1``.
    """
    found, i = [], 0
    while i < len(order):
        step = order[i + 1] - order[i] if i + 1 < len(order) else 0
        j = i + 1
        while step and j < len(order) and order[j] - order[j - 1] == step:
            j += 1
        if j - i < 3 and not (j - i == 2 and step == 1):
            j, step = i + 1, 1
        found.append(Run(int(order[i]), int(step), j - i))
        i = j
    return found


def inverse_order(order: Sequence[int]) -> tuple[int, ...]:
    """``d`` with ``d[order[i]] == i``."""
    out = [0] * len(order)
    for i, c in enumerate(order):
        out[c] = i
    return tuple(out)
