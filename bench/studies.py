"""Studies: runs trained as one stack beside the same runs one after another."""

from collections.abc import Callable, Iterator
from functools import partial

from bench.harness import Bench, Result
from bench.sizes import FASHIONIQ
from bench.training import BATCH, some_steps, synthetic, trainer
from rau.params import Params, TrainParams
from rau.studies.workers import most_together

# Seeds times thresholds: 27 runs.
SEEDS, THETAS = 3, 9
# On a CPU, where more would gain nothing.
FEW_SEEDS, FEW_THETAS = 2, 2
SMALL_BATCH = 64
WIDTH = 128
STEPS = 8


def cases(bench: Bench) -> Iterator[Result]:
    """Large and small batches, wide features, and on a GPU all 27."""
    on_gpu = bench.device.type == "cuda"
    seeds, thetas = (SEEDS, THETAS) if on_gpu else (FEW_SEEDS, FEW_THETAS)
    for width, batch in ((WIDTH, BATCH), (WIDTH, SMALL_BATCH), (1024, BATCH)):
        features, queries = synthetic(FASHIONIQ, width, bench)
        stack = some_steps(trainer(features, queries, width, seeds * thetas, thetas, batch), STEPS)
        alone = some_steps(trainer(features, queries, width, batch=batch), STEPS)
        found = bench.turns(
            seconds=stack,
            floor_seconds=partial(_again, alone, seeds * thetas),
            one_seconds=alone,
        )
        name = f"{seeds}x{thetas}/fashioniq/{width}/batch {batch}"
        ratio = found["seconds"] / found["floor_seconds"]
        params = Params(train=TrainParams(batch_size=batch))
        used = most_together(params, bench.device.type) >= seeds * thetas
        # Elsewhere studies do not stack, and the figure says why.
        limit = 1.0 if used else None
        yield Result(f"studies/{name}", ratio, "x", "one after another", limit, detail=found)
        limit = 4.0 if on_gpu and seeds * thetas == SEEDS * THETAS else None
        ratio = found["seconds"] / found["one_seconds"]
        yield Result(f"studies/times one/{name}", ratio, "x", "one run", limit, detail=found)


def _again(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()
