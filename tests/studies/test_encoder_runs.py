"""The study `finetune`: every run trains an encoder, and is paired within its regime of data."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from rau.methods import METHODS
from rau.params import Params
from rau.schemas import (
    GALLERIES,
    MANIFEST,
    QUERIES,
    GalleryRow,
    ManifestRow,
    write_table,
)
from rau.studies import plan, registry, study
from rau.studies.encoder_runs import EncoderSource
from rau.studies.local_workers import LocalWorkers
from rau.studies.run_store import RunStore
from tests.finetuning.synthetic import params, pictures, queries

SIZES = plan.Plan("smoke", 1, 1, 1, 1)
FINETUNE = registry.load("finetune")


@pytest.fixture
def source(tmp_path: Path, encoder_folder: Path) -> EncoderSource:
    """The squares as files."""
    torch.set_num_threads(1)
    items = pictures(tmp_path / "images")
    rows: list[ManifestRow] = [
        {
            "image_id": item.name,
            "path": f"images/{item.name}.png",
            "bytes": 1,
            "sha256": item.key,
            "width": 64,
            "height": 48,
            "source": None,
            "status": "ok",
            "reason": None,
        }
        for item in items
    ]
    val = sorted({q["reference_id"] for q in queries() if q["split"] == "val"})
    galleries: list[GalleryRow] = [
        {"gallery": gallery, "category": "dress", "image_id": name}
        for gallery in ("original", "val-union")
        for name in val
    ]
    tables = (("manifest", rows, MANIFEST), ("queries", queries(), QUERIES))
    for name, own, schema in (*tables, ("galleries", galleries, GALLERIES)):
        table = pa.Table.from_pylist(list(own), schema=schema)
        write_table(tmp_path / f"{name}.parquet", table, schema)
    files = {n: tmp_path / f"{n}.parquet" for n in ("manifest", "queries", "galleries")}
    return EncoderSource(
        encoder_folder, **files, images=tmp_path, parts=tmp_path / "parts", device="cpu"
    )


def small(**finetune: object) -> Params:
    """One epoch on the squares."""
    made = plan.changed(params(epochs=1, **finetune), {"dataset.name": "fashioniq"})
    return plan.changed(made, {"study.preset": "smoke", "train.batch_size": 16})


def test_every_regime_has_every_composer_with_as_many_steps() -> None:
    found = FINETUNE.variants(plan.base(small(), SIZES), SIZES, {})
    labels = [variant.label for variant in found]
    assert len(set(labels)) == len(labels) == 2 * 8
    composers = labels[:8]
    assert METHODS["raw_sum"].label in composers
    assert {"ISU", "ISU + CSU", "ISU + DR", "ISU + CSU + DR"} <= set(composers)
    for variant in found:
        regime = variant.x["fraction"], variant.x["noise"]
        whole = regime == (1.0, 0.0)
        assert variant.params.train.fraction == variant.x["fraction"]
        assert variant.params.train.noise == variant.x["noise"]
        assert variant.params.finetune.epochs == (1 if whole else 2)
        # The rate is 1e-3, and the other regime has a quarter of the queries.
        assert variant.params.finetune.tower_lr == (1e-3 if whole else 5e-4)
        partner = next(v for v in found if v.label == variant.partner)
        assert partner.params.head.name == "deterministic"
        assert (partner.x["fraction"], partner.x["noise"]) == regime
        assert variant.params.finetune == partner.params.finetune


def test_quick_asks_every_regime_and_all_composers_of_all_queries() -> None:
    sizes = plan.Plan("quick", 1, 1, 1, 1)
    found = FINETUNE.variants(plan.base(small(), sizes), sizes, {})
    regimes = Counter((variant.x["fraction"], variant.x["noise"]) for variant in found)
    assert regimes.pop((1.0, 0.0)) == 8
    assert regimes == dict.fromkeys([(0.3, 0), (0.1, 0), (0.3, 0.2), (0.3, 0.4)], 3)


def test_a_run_trains_its_encoder_and_measures_val(source: EncoderSource) -> None:
    base = plan.base(small(composer="head"), SIZES)
    found = FINETUNE.variants(base, SIZES, {})
    rau = next(v for v in found if v.label == "ISU + CSU + DR (25% of the queries, 40% wrong)")
    chosen = rau.with_seed(1)
    result = source.runner()(chosen)
    assert result.failure is None
    assert set(result.values) == {"original", "val"}
    count = sum(query["split"] == "val" for query in queries())
    assert result.values["original"]["dress"].shape == (count, len(result.names))
    assert result.params["train.noise"] == 0.4
    assert result.summary["epochs"] == 2
    # The statistics are of the epoch that is kept, and there are none before the first step.
    assert bool(result.summary["sigma_source"]) == (result.summary["best_epoch"] != 0)
    assert result.summary["parameters"] > 100_000  # type: ignore[operator]  # Towers too.
    # The state of a finished run is not left, and the same run ends the same.
    assert not list((source.parts / "finetune").iterdir())
    again = source.runner()(chosen)
    for name, values in result.values.items():
        np.testing.assert_array_equal(values["dress"], again.values[name]["dress"])


def test_a_training_that_fails_is_kept_as_one(source: EncoderSource) -> None:
    wild = plan.changed(plan.base(small(), SIZES), {"finetune.tower_lr": 1e30})
    result = source.runner()(wild)
    assert "not finite in epoch 1" in str(result.failure)
    assert not list((source.parts / "finetune").iterdir())  # Nothing would resume it.


def test_a_key_knows_the_encoder_the_data_and_the_code(
    source: EncoderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = plan.base(small(), SIZES)
    key = source.key(base, source.digest(), "cpu")
    speed = plan.changed(base, {"finetune.workers": 1, "evaluate.bootstrap": 3})
    assert source.key(speed, source.digest(), "cpu") == key
    others = [
        source.key(plan.changed(base, {name: value}), source.digest(), "cpu")
        for name, value in {
            "finetune.epochs": 7,
            "train.noise": 0.1,
            "train.seed": 5,
            "evaluate.unusable": "leave_out",
        }.items()
    ]
    others += [source.key(base, "other", "cpu"), source.key(base, source.digest(), "cuda")]
    assert len({key, *others}) == 7


def test_the_study_pairs_each_regime_with_its_own_deterministic_composer(
    source: EncoderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PRESETS", {"smoke": SIZES})
    # The numbers do not matter here: one run stands for all.
    made = source.runner()(plan.base(small(), SIZES))
    monkeypatch.setattr(RunStore, "complete", lambda self, title, wanted: [made] * len(wanted))
    store = RunStore(tmp_path / "runs", source, LocalWorkers("cpu", jobs=1, cores=1))
    monkeypatch.setattr(store, "forecast", lambda title, wanted: None)
    tables = study.run_study("finetune", small(), {}, store)
    assert tables.document.seeds == 1
    lines = tables.summary
    alone = set(lines[lines.difference.isna()].variant)
    deterministic = METHODS["deterministic"].label
    assert alone == {deterministic, f"{deterministic} (25% of the queries, 40% wrong)"}
    assert set(tables.runs.fraction) == {1.0, 0.25}
    assert len(FINETUNE.figure(tables).axes) == 2 * 2
