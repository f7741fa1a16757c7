"""Study data and made-up results that the tests of studies share."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rau.models.config import canonical
from rau.params import Params
from rau.retrieval.protocols import select
from rau.schemas import GalleryRow, ends
from rau.studies import (
    plan,
    registry,
    runs,
    summary,
)
from rau.studies.local_workers import LocalWorkers
from rau.studies.tables import StudyDocument, StudyTables, VariantRecord
from rau.training import fit
from tests.training.test_trainer import params as small
from tests.training.test_trainer import synthetic

SIZES = plan.Plan("smoke", 2, 1, 3)


def tiny(**train: Any) -> Params:
    """Parameters of a small training on features of a frozen encoder."""
    chosen = small(epochs=1, **train)
    frozen = {"dataset.name": "fashioniq", "finetune.towers": "none"}
    return plan.changed(chosen, {**frozen, "evaluate.bootstrap": 0})


def variants(study: str, params: Params) -> list[plan.Variant]:
    return plan.distinct(registry.load(study).variants(params, SIZES, {}))


def local(jobs: int) -> LocalWorkers:
    return LocalWorkers("cpu", jobs=jobs, cores=1)


def small_data() -> runs.StudyData:
    features, queries = synthetic()
    val = [q for q in queries if q["split"] == "val"]
    members = sorted({(q["category"], end) for q in val for end in ends(q)})
    rows: list[GalleryRow] = [
        {"gallery": gallery, "category": category, "image_id": end}
        for gallery in ("original", "val-union")
        for category, end in members
    ]
    return runs.StudyData(features, queries, rows)


def write_source(folder: Path) -> runs.Source:
    """The small data set as files."""
    import pyarrow as pa

    from rau.features.table import write_features
    from rau.schemas import GALLERIES, QUERIES, write_table

    made = small_data()
    about = {"key": "k", "space": "shared", "encoder": "e", "weights": "w", "preprocess": "p"}
    for kind, column in (("images", "image_id"), ("texts", "text")):
        part = getattr(made.features, kind)
        write_features(folder / f"{kind}.parquet", column, part.names, [part.matrix], about)
    for name, rows, schema in (
        ("queries", made.queries, QUERIES),
        ("galleries", made.galleries, GALLERIES),
    ):
        write_table(
            folder / f"{name}.parquet", pa.Table.from_pylist(list(rows), schema=schema), schema
        )
    images, texts, queries, galleries = (
        folder / f"{name}.parquet" for name in ("images", "texts", "queries", "galleries")
    )
    return runs.Source(images, texts, queries, galleries, "cpu")


def results(shift: float, seed: int) -> list[runs.Result]:
    """Three made-up seeds whose metrics are `shift` higher than at 0."""
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        values = rng.normal(size=(80, 2)) * 5 + 40
        own = np.random.default_rng(100 + 10 * seed + number).normal(size=(80, 2)) * 0.1
        statistics: dict[str, float | None] = {
            "epoch": 3,
            "epochs": 5,
            "best_epoch": 3,
            "parameters": 10,
            "seconds": 1.0,
            "sigma_source": 0.5,
            "sigma_target": 0.5,
            "gradient_norm": 1.0,
            "gradient_norm_first": 1.0,
            "gradient_norm_max": 1.0,
            "csu_added_per_row": 3.0,
            "csu_share": 0.5,
            "csu_precision": 0.5,
            "csu_recall": 0.25,
            "alignment_pairs": 0.1,
            "alignment_negatives": 1.0,
            "alignment_closer": 0.9,
        }
        made.append(
            runs.Result(
                {},
                statistics,
                ["mean_of_r10_r50", "recall_at_1", "recall_at_10"],
                {"original": {"dress": np.column_stack([values + shift + own, values[:, 0]])}},
                {"original": {"dress": np.arange(80, dtype=np.int64)}},
                {k: np.full(100, 0.01) for k in ("pairs", "others", "true")},
            )
        )
    return made


def study_tables(name: str = "theta", apart: float = 0.2) -> StudyTables:
    """Made-up tables of a study, each variant's values so far apart from the next one's."""
    reference = registry.load(name).reference
    found = variants(name, plan.base(tiny(), SIZES))
    by_variant = {v.label: results(apart * i, i if apart else 0) for i, v in enumerate(found)}
    lines = summary.lines(by_variant, {reference: list(by_variant)})
    rows = pd.DataFrame(
        [summary.run_row(v, s, "k", r) for v in found for s, r in enumerate(by_variant[v.label])]
    )
    document = StudyDocument(
        study=name,
        seeds=3,
        preset="smoke",
        reference=reference,
        variants=[VariantRecord(label=v.label, x=dict(v.x), params="k") for v in found],
        diagnostics={
            v.label: [summary.seed_diagnostics(v, r, None) for r in by_variant[v.label]]
            for v in found
        },
        cosines=summary.mean_cosines(by_variant),
    )
    return StudyTables(rows, lines, document)


def trained(**train: Any) -> runs.Trained:
    """A head after an epoch on the small data set."""
    params, data = canonical(tiny(**train)), small_data()
    prepared = data.prepared(params)
    protocol = select("fashioniq", params.evaluate)[0]
    head = fit.fit(params, data.features, prepared, None, quiet=True).head
    return runs.Trained(params, head, data, prepared, protocol)
