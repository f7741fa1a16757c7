"""Less train data and wrong targets, on purpose: to see which method stands them."""

import random
from collections import defaultdict
from dataclasses import replace

from rau.params import TrainParams
from rau.schemas import QueryRow, ends
from rau.training.triplets import TrainSet


def degrade(split: TrainSet, train: TrainParams) -> TrainSet:
    """Keep `train.fraction` of each category's train queries and give `train.noise` of these a
    wrong target, drawn by `train.seed` from the category's others; the holdout stays as it is.

    A smaller fraction is a part of a larger one, and wrong targets are of the same queries whatever
    their share. Where every target of the category answers a query, it keeps its own.
    """
    by_category: dict[str, list[int]] = defaultdict(list)
    for row, query in enumerate(split.train):
        by_category[query["category"]].append(row)
    kept: dict[int, QueryRow] = {}
    replaced = 0
    for category, rows in by_category.items():
        # Streams of their own: what is drawn for one purpose shifts no other draw.
        order, wrong = (
            random.Random(f"{train.seed} {use} {category}") for use in ("keep", "target")
        )
        order.shuffle(rows)
        own = {row: split.train[row] for row in rows[: max(1, round(train.fraction * len(rows)))]}
        targets = sorted({ends(query)[1] for query in own.values()})
        for row in list(own)[: round(train.noise * len(own))]:
            right = {*ends(own[row]), *(own[row]["relevant"] or ())}
            if right.issuperset(targets):
                continue
            while (target := wrong.choice(targets)) in right:
                pass
            own[row] = {**own[row], "target_id": target}
            replaced += 1
        kept |= own
    return replace(
        split,
        train=[kept[row] for row in sorted(kept)],
        left_out=len(split.train) - len(kept),
        replaced=replaced,
    )
