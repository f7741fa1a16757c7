"""The learning rate schedule, as a factor of its peak."""

import math

WARM_UP = 0.1


def factor(step: int, steps: int) -> float:
    """A linear warm-up over the first tenth, then half a cosine down to zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
