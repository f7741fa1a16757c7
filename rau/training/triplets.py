"""The train queries as rows of the feature matrices, with the holdout set apart."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rau.datasets.captions import Join, training_texts
from rau.errors import UserError
from rau.methods import RAW_SUM
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Task, build_task, padded
from rau.schemas import QueryRow, ends
from rau.training.holdout import Edge, carve

# Images of a category that the holdout's gallery takes from the rest of train, at most.
DISTRACTORS = 250


class TooFew(UserError):
    """Train queries that a holdout cannot be carved from."""


@dataclass(frozen=True)
class Triplets:
    """Q train queries as rows of the feature matrices, on their device.

    Attributes:
        reference, target: rows of the image features, (Q,).
        texts: rows of the text features, (Q, t); the first `text_count` of each are drawn from.
        text_count: (Q,).
        category: one number per category, (Q,), on the CPU.
        relevant: rows of the image features of all true answers, (Q, m), padded with `images`;
            None where not known.
        images: number of rows of the image features.
    """

    reference: Tensor
    target: Tensor
    texts: Tensor
    text_count: Tensor
    category: Tensor
    relevant: Tensor | None = None
    images: int = 0

    def __len__(self) -> int:
        return len(self.reference)

    def true_pairs(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """Which image of `targets` (B,) answers which query of `rows` (B,).

        Returns (B, B) of 1 and 0, rows are queries, or None where it is not known. Every image of
        the batch gets a place among its columns, and each query marks the places of its answers.
        """
        if self.relevant is None:
            return None
        count = len(rows)
        slot = targets.new_full((self.images + 1,), count)  # An extra column for all others.
        slot.scatter_(0, targets, torch.arange(count, device=rows.device))
        marked = torch.zeros(count, count + 1, device=rows.device)
        marked.scatter_(1, slot[self.relevant[rows]], 1.0)
        return marked[:, slot[targets]]


@dataclass(frozen=True)
class TrainSet:
    """Queries to train on, queries of the holdout, and counts of those that neither can use.

    Attributes:
        distractors: other train images of each category, for the holdout's gallery.
        left_out, replaced: by `degradation`, queries and targets of the train queries.
    """

    train: list[QueryRow]
    holdout: list[QueryRow]
    distractors: dict[str, list[str]]
    dropped: int
    unusable: int
    left_out: int = 0
    replaced: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of queries by what became of them."""
        names = ("dropped", "unusable", "left_out", "replaced")
        sizes = {"train": len(self.train), "holdout": len(self.holdout)}
        return sizes | {name: getattr(self, name) for name in names}

    def summary(self) -> str:
        """One line of counts, without those that are zero."""
        others = {
            "dropped at the border": self.dropped,
            "without an image": self.unusable,
            "left out by train.fraction": self.left_out,
            "with a wrong target by train.noise": self.replaced,
        }
        counts = {"train queries": len(self.train), "held out by image": len(self.holdout)}
        counts |= {label: count for label, count in others.items() if count}
        return ", ".join(f"{count:,} {label}" for label, count in counts.items())


def divide(queries: Sequence[QueryRow], features: FeatureSet, share: float, seed: int) -> TrainSet:
    """Carve the holdout from the train queries whose images are available.

    Raises:
        TooFew: when too few queries are left for training or for the holdout.
    """
    present = features.images.index.keys()
    train = [q for q in queries if q["split"] == "train"]
    usable = [q for q in train if {q["reference_id"], q["target_id"]} <= present]
    edges = [Edge(q["category"], *ends(q)) for q in usable]
    split = carve(edges, share, seed)
    if len(split.train) < 2 or not split.holdout:
        raise TooFew(
            f"{len(usable)} usable train queries leave {len(split.train)} to train on and "
            f"{len(split.holdout)} to choose by; add queries or change train.holdout, or train "
            "nothing: finetune.towers=none, and train.head=<a head trained before> or "
            f"head.name={RAW_SUM}"
        )
    held = {end for row in split.holdout for end in ends(usable[row])}
    others: dict[str, set[str]] = defaultdict(set)
    for query in usable:
        others[query["category"]] |= {*ends(query)} - held
    rng = random.Random(seed)
    return TrainSet(
        [usable[row] for row in split.train],
        [usable[row] for row in split.holdout],
        {
            category: rng.sample(sorted(images), min(len(images), DISTRACTORS))
            for category, images in sorted(others.items())
        },
        len(split.dropped),
        len(train) - len(usable),
    )


def triplets_of(queries: Sequence[QueryRow], features: FeatureSet) -> Triplets:
    """Look up the rows of the queries that are trained on."""
    device = features.device
    images = features.images.index
    texts = [training_texts(query["captions"]) for query in queries]
    flat = iter(features.texts.rows((text for row in texts for text in row), "texts").tolist())
    captions = padded([[next(flat) for _ in row] for row in texts], 0)
    categories = {
        name: number for number, name in enumerate(sorted({q["category"] for q in queries}))
    }
    relevant = None
    if all(query["relevant"] is not None for query in queries):
        listed = [[images[name] for name in q["relevant"] or () if name in images] for q in queries]
        relevant = torch.from_numpy(padded(listed, len(images))).to(device)
    return Triplets(
        reference=torch.tensor([images[q["reference_id"]] for q in queries]).to(device),
        target=torch.tensor([images[ends(q)[1]] for q in queries]).to(device),
        texts=torch.from_numpy(captions).to(device),
        text_count=torch.tensor([len(row) for row in texts]).to(device),
        category=torch.tensor([categories[q["category"]] for q in queries]),
        relevant=relevant,
        images=len(images),
    )


def holdout_tasks(
    split: TrainSet, features: FeatureSet, join: Join, remove_reference: bool
) -> list[Task]:
    """The holdout by category, without subsets.

    Its own references and targets are few and near relatives: alone they would tell how well
    relatives are ranked, and nothing of how well they are found. The gallery has the category's
    distractors too.
    """
    tasks = []
    queries: list[QueryRow] = [{**query, "members": None} for query in split.holdout]
    for category in sorted({query["category"] for query in queries}):
        own = [query for query in queries if query["category"] == category]
        gallery = {end for query in own for end in ends(query)} | {*split.distractors[category]}
        tasks.append(build_task(category, own, gallery, join, remove_reference, features))
    return tasks
