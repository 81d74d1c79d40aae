"""How long and how fast: the schedule of the learning rate, the order of networks. No torch in here."""

import math


def rate(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step, counted from 0: up in a line over a tenth, down to 0 by a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return peak * step / rise
    done = min(1.0, (step - rise) / max(1, max(2, steps) - rise))
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def better(score: float, best: float | None, largest: bool) -> bool:
    """Whether a score beats the best one so far; none that is not finite does."""
    if not math.isfinite(score):
        return False
    return best is None or (score > best if largest else score < best)
