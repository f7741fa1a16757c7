"""A measure of studies: what every query's answer shows of whether it is right, and if it is."""

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rau.evaluation import calibration
from rau.evaluation.calibration import LISTED, Lists
from rau.evaluation.calibration_check import ASKED
from rau.models.head import ComposedHead
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import CUTS
from rau.retrieval.tasks import Ranked, Task, run_all
from rau.studies.runs import Trained
from rau.training.triplets import holdout_tasks

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
# Decide what is measured, beside what decides a head.
SOURCES = ("evaluation/calibration.py", "evaluation/calibration_check.py")
# What an answer shows, the larger the surer.
FREE = (
    "top-1 cosine",
    "margin",
    "drop to the 50th",
    "entropy",
    *(f"mass of the first {k}" for k in CUTS),
    "σ² of the query",
    "σ² of query and top-1",
    "text length",
)
# Best answers that seeds are compared by, and principal components of texts and of references.
TOP, COMPONENTS = 5, 24
# Of a holdout too small to fit one.
UNFITTED = 0.05


def evidence(trained: Trained) -> Arrays:
    """What the answers to val's and the holdout's queries show.

    Returns:
        Under `<split>/`, for Q queries: `free` (Q, len(FREE)); `rank` of the target (Q,), 0 for a
        missing one; `gallery` (Q,), its size; `precision` (Q,), average precision, and `answers`
        (Q,), the number of true ones, both NaN where they are not known; `top` (Q, 5), image rows
        of the first answers; `category` (Q,), its number, val's by name first; `query` (Q,), a
        number of the query that is the same in every run; `inputs` (Q, 48), principal components of
        the text's and the reference's features, the same for every run.
    """
    features, head = trained.data.features, trained.head
    tasks = {
        "val": trained.data.tasks(ASKED),
        "holdout": holdout_tasks(trained.prepared.split, features, "forward", True),
    }
    fitted = calibration.fit(Lists.of(tasks["holdout"], head, features), "", "")
    temperature = UNFITTED if fitted is None else fitted.temperature
    inputs = _inputs(features)
    categories = dict.fromkeys(task.category for own in tasks.values() for task in own)
    places = {category: number for number, category in enumerate(categories)}
    found: Arrays = {}
    for split, own in tasks.items():
        ranked = run_all(own, head, features, LISTED)
        parts = [
            _of_task(places[task.category], task, one, head, features, temperature, inputs)
            for task, one in zip(own, ranked, strict=True)
        ]
        found |= {
            f"{split}/{name}": np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
    return found


def _of_task(
    number: int,
    task: Task,
    ranked: Ranked,
    head: ComposedHead,
    features: FeatureSet,
    temperature: float,
    inputs: tuple[Floats, Floats],
) -> Arrays:
    """The arrays of a category's usable queries."""
    rows, ranking = task.usable, ranked.ranking
    _, sigma = head.encode_gallery(features.image_rows(torch.from_numpy(task.gallery)))
    top = ranking.top[rows]
    words = np.array([len(texts[0].split()) for texts in task.texts])
    unknown = np.full(int(rows.sum()), np.nan)
    precision = ranking.average_precision.get(None)
    text, image = inputs
    return {
        "free": free(
            ranking.scores[rows],
            temperature,
            ranked.uncertainty[rows] ** 2,
            sigma.cpu().numpy()[top[:, 0]] ** 2,
            words[rows],
        ),
        "rank": ranking.target_rank[rows],
        "gallery": np.full(len(top), len(task.gallery)) - (task.removed[rows] >= 0),
        "precision": unknown if precision is None else precision[rows],
        "answers": unknown if task.relevant is None else (task.relevant[rows] >= 0).sum(1) * 1.0,
        "top": np.where(top[:, :TOP] >= 0, task.gallery[top[:, :TOP]], -1),
        "category": np.full(len(top), number),
        "query": np.array([zlib.crc32(name.encode()) for name in task.query_ids])[rows],
        "inputs": np.hstack([text[task.text[rows, 0]], image[task.reference[rows]]]),
    }


def free(
    scores: NDArray[np.float32],
    temperature: float,
    query: NDArray[np.float32],
    first: NDArray[np.float32],
    words: NDArray[np.int64],
) -> Floats:
    """The predictors `FREE`, (Q, len(FREE)).

    Args:
        scores: cosines of the best answers, best first, (Q, L); NaN past the gallery's end.
        temperature: of the softmax.
        query, first: trace of the variance of the query and of its first answer, (Q,).
        words: number of the texts' words, (Q,).
    """
    known = (~np.isnan(scores)).sum(1)
    rows = np.arange(len(scores))
    second, deep = (scores[rows, np.minimum(k, known) - 1] for k in (2, 50))
    shares = calibration.shares_of(scores, temperature)
    each = np.diff(shares, axis=1, prepend=0.0)
    entropy = -(each * np.log(np.maximum(each, 1e-300))).sum(1)
    masses = [shares[:, min(k, shares.shape[1]) - 1] for k in CUTS]
    best = scores[:, 0]
    columns = [best, best - second, best - deep, -entropy, *masses, -query, -(query + first)]
    return np.stack([*columns, -words], axis=1).astype(np.float64)


def _inputs(features: FeatureSet) -> tuple[Floats, Floats]:
    """Principal components of all texts and of all images, unit features first."""
    return _components(features.text_matrix), _components(features.image_matrix)


def _components(matrix: torch.Tensor) -> Floats:
    """The first principal components of rows (N, d), each of variance 1; signs as they come."""
    rows = torch.nn.functional.normalize(matrix.cpu().double(), dim=-1)
    rows = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    kept = vectors[:, -COMPONENTS:]
    return np.asarray((rows @ kept / values[-COMPONENTS:].clamp(min=1e-12).sqrt()).numpy())
