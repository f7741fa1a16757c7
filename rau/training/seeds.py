"""Seeds of a training's random streams.

One `train.seed` fixes a training. What it draws comes from streams that are independent of each
other, so that no method's noise changes the batches of the next epoch and no batch repeats the
numbers of the captions. The head's initial weights are drawn from the seed itself.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn in every epoch."""

    BATCHES = 0  # which queries go together, in which order
    CAPTIONS = 1  # which text each query has
    NOISE = 2  # dropout and samples of the head; in fine-tuning by step
    PICTURES = 3  # random changes of pictures


def epoch_seed(seed: int, stream: Stream, epoch: int) -> int:
    """The seed of a stream in an epoch, 64 bits.

    NumPy's SeedSequence hashes the three numbers, so that neighbouring seeds, streams and epochs
    have nothing in common. An epoch can be drawn without those before it: a training that was
    stopped resumes bit-identically.
    """
    state = np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)
    return int(state[0])
