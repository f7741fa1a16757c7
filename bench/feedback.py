"""`python -m bench.feedback`: simulate the effect of user feedback with known correct answers.

The garments of a project are a shop's catalogue; a head is trained on queries generated from its
table. Users then ask for products in their own words, which the generated captions do not contain,
look at the first results and confirm the first correct one. Their feedback is stored like that of
`rau serve`, in files in `feedback/`, and the head is trained again. Metrics are measured before and
after on requests in users' words between val products.
"""

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from rau import console, cpu, devices
from rau.datasets.captions import all_texts, in_order
from rau.datasets.catalogue.people import FEEDBACK
from rau.datasets.catalogue.reader import PEOPLE, Catalogue, CatalogueReader
from rau.datasets.garments import plan, shop
from rau.datasets.garments.attributes import CATEGORIES
from rau.datasets.garments.generate import Part
from rau.datasets.garments.relevance import Triplet, relevant
from rau.encoders import encoder as encoders
from rau.evaluation.bootstrap import differences, means
from rau.features.table import Features, read_features
from rau.models.head import ComposedHead
from rau.params import Params
from rau.project import workspace
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import stack
from rau.retrieval.tasks import Task, build_task, measured, run
from rau.schemas import QueryRow
from rau.service.feedback import Feedback
from rau.training import fit, model_selection

METRICS = ("recall_at_1", "recall_at_10", "recall_at_50", "map")
# Numbers of sampled requests, of those asked by users and of those used for the metrics.
DRAWN, ASKING, MEASURED = 60_000, 6000, 1500
# Number of results that a user looks at.
SHOWN = 24
# How often a confirmed result counts as a training query.
TIMES = (1, 10)
RESAMPLES = 10_000
Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Shop:
    """The catalogue without feedback, and the requests of users.

    Attributes:
        root: folder of the catalogue's table.
        asked: requests of users that include a train product, in random order.
        test: requests between val products; their correct answers are val products.
    """

    root: Path
    before: Catalogue
    asked: list[QueryRow]
    test: list[QueryRow]


def open_shop(root: Path, params: Params) -> Shop:
    """Write the table of the garments and sample requests for them."""
    spec = params.dataset.garments
    drawn = {"train_queries": DRAWN // 2, "val_queries": DRAWN // 2}
    parts = plan(spec.model_copy(update=drawn))
    shop.write_table(root, parts)
    before = CatalogueReader(params.dataset.catalogue).read(root)
    val = {before.products.ids[row] for row in np.flatnonzero(before.val)}
    rng = np.random.default_rng(spec.seed)
    asked: list[QueryRow] = []
    test: list[QueryRow] = []
    for category in CATEGORIES:
        own = [part for part in parts if part.category == category]
        inside, others = _requests(own, val, rng)
        asked += others
        test += [
            {**query, "relevant": [name for name in query["relevant"] or () if name in val]}
            for query in inside
        ]
    return Shop(root, before, asked, test)


def _requests(
    parts: Sequence[Part], val: Collection[str], rng: np.random.Generator
) -> tuple[list[QueryRow], list[QueryRow]]:
    """Requests for garments of one category: those between val products, and all others."""
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    ids = [name for part in parts for name in part.ids]
    garments = [one for part in parts for one in part.garments]
    drawn = [
        Triplet(one.reference + start, one.target + start, one.captions)
        for part, start in zip(parts, starts, strict=False)
        for one in part.triplets
    ]
    of_val = [ids[one.reference] in val and ids[one.target] in val for one in drawn]
    found = []
    for inside, most in ((True, MEASURED), (False, ASKING)):
        places = rng.permutation(np.flatnonzero(np.equal(of_val, inside)))
        chosen = [drawn[place] for place in places[: most // len(CATEGORIES)].tolist()]
        answers = relevant(garments, chosen)
        found.append(
            [
                QueryRow(
                    query_id=f"{parts[0].category}-{inside}-{number}",
                    split="val",
                    category=parts[0].category,
                    reference_id=ids[one.reference],
                    target_id=ids[one.target],
                    captions=[in_order([caption.text for caption in one.captions])],
                    members=None,
                    relevant=[ids[row] for row in rows],
                )
                for number, (one, rows) in enumerate(zip(chosen, answers, strict=True))
            ]
        )
    return found[0], found[1]


def features_of(made: Shop, images: Features, encoder: encoders.Encoder, size: int) -> FeatureSet:
    """Features of all images, and of all texts used in requests or training."""
    queries = [*_all(made.before), *made.asked, *made.test]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    encoded = [
        encoder.encode_texts(texts[start : start + size]).half().numpy()
        for start in range(0, len(texts), size)
    ]
    own = Features(texts, np.concatenate(encoded), images.metadata)
    return FeatureSet.on(encoder.device, images, own)


def train(params: Params, features: FeatureSet, queries: Sequence[QueryRow]) -> ComposedHead:
    """Train a head on the given queries."""
    choices = [model_selection.TRAINED_FOR]
    prepared = fit.prepare(params.train, features, queries, choices)
    return fit.fit(params, features, prepared, None, quiet=True).head


def val_tasks(made: Shop, features: FeatureSet) -> list[Task]:
    """Evaluation tasks: the test requests, with all val products of their category as gallery."""
    galleries = made.before.annotations().galleries["original"]
    return [
        build_task(
            category,
            [query for query in made.test if query["category"] == category],
            members,
            "forward",
            True,
            features,
        )
        for category, members in sorted(galleries.items())
    ]


def measure(tasks: Sequence[Task], head: ComposedHead, features: FeatureSet) -> Values:
    """Measure the metrics of every request, (R, M), by category."""
    ranked = [run(task, head, features, 1) for task in tasks]
    values, _ = measured(tasks, ranked, Params().evaluate)
    return {category: stack(own, METRICS) for category, own in values.items()}


def answer(
    folder: Path, asked: Sequence[QueryRow], head: ComposedHead, features: FeatureSet, wanted: int
) -> int:
    """Simulate requests until `wanted` results are confirmed; return the number of requests."""
    task = build_task("all", asked, features.images.names, "forward", True, features)
    top = run(task, head, features, SHOWN).ranking.top
    kept = Feedback(folder)
    given = 0
    for number, (query, places) in enumerate(zip(asked, top, strict=True), 1):
        shown = [task.gallery_ids[place] for place in places.tolist()]
        right = next((name for name in shown if name in set(query["relevant"] or ())), None)
        if right is not None:
            kept.add(query["reference_id"], right, query["captions"][0], accepted=True)
            given += 1
        if given == wanted:
            return number
    return len(asked)


def learn(
    made: Shop, tasks: Sequence[Task], params: Params, features: FeatureSet, answers: int
) -> list[Values]:
    """Measure metrics before and after the feedback of one seed, for each value of `TIMES`."""
    head = train(params, features, _all(made.before))
    values = [measure(tasks, head, features)]
    order = np.random.default_rng(params.train.seed).permutation(len(made.asked)).tolist()
    folder = made.root / FEEDBACK
    number = answer(folder, [made.asked[row] for row in order], head, features, answers)
    after = CatalogueReader(params.dataset.catalogue).read(made.root)
    shutil.rmtree(folder)
    people = [query for query in after.kinds()[PEOPLE] if query["split"] == "train"]
    print(f"{number:,} requests, {len(people)} answers between products of train", flush=True)
    for times in TIMES:
        more = [*_all(after), *people * (times - 1)]
        values.append(measure(tasks, train(params, features, more), features))
    return values


def _all(catalogue: Catalogue) -> list[QueryRow]:
    return [query for own in catalogue.kinds().values() for query in own]


def main(
    seeds: Annotated[int, typer.Option(min=2, help="of training, and of who asks")] = 3,
    answers: Annotated[int, typer.Option(min=1, help="confirmed results")] = 200,
) -> None:
    """Simulate and print; first run `dvc repro` with `finetune.towers=none` on built-in data."""
    params = workspace.load_params()
    cpu.limit_threads(params.train.threads)
    device = devices.choose(params.train.device)
    encoder = encoders.load(workspace.encoder("garments"), device)
    images = read_features(workspace.features("garments", "images"), "image_id")
    runs: list[list[Values]] = []
    with tempfile.TemporaryDirectory() as temporary:
        made = open_shop(Path(temporary), params)
        features = features_of(made, images, encoder, params.features.batch_size)
        tasks = val_tasks(made, features)
        for seed in range(seeds):
            seeded = params.train.model_copy(update={"seed": seed})
            own = params.model_copy(update={"train": seeded})
            runs.append(learn(made, tasks, own, features, answers))
    clusters = {task.category: task.clusters for task in tasks}
    before, *after = (
        {category: np.stack([one[category] for one in of_seeds]) for category in clusters}
        for of_seeds in zip(*runs, strict=True)
    )
    print("answers count", *METRICS, sep="\t")
    print(0, *(f"{value:.2f}" for value in means(before, clusters)), sep="\t")
    for times, each in zip(TIMES, after, strict=True):
        found = differences(each, before, clusters, RESAMPLES, 0)["mean"]
        cells = (f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in found)
        print(times, *cells, sep="\t")


if __name__ == "__main__":
    console.run(console.command(main))
