"""The learning rate schedule, as a factor of its peak."""

import math

WARM_UP = 0.1


def factor(step: int, steps: int, warm_up: float = WARM_UP, constant: bool = False) -> float:
    """A linear warm-up, then half a cosine down to zero, or 1.

    Args:
        step: the first is 0.
        steps: of the whole training.
        warm_up: its share of the steps; 0 for none.
        constant: without the cosine.
    """
    warm = round(warm_up * steps)
    if step < warm:
        return (step + 1) / warm
    if constant:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
