"""The user's own catalogue through every stage, in this process."""

import json
import shutil
from pathlib import Path

import yaml

from rau.schemas import read_queries
from tests import catalogue
from tests.places import ROOT
from tests.project import command, stage

CHANGES = {
    "dataset": {"name": "catalogue", "root": "shop"},
    "finetune": {"towers": "none"},
    "train": {"epochs": 2, "batch_size": 64, "threads": 1},
    "evaluate": {"bootstrap": 20},
}
STAGES = ("download", "tables", "finetune", "features", "train", "deterministic", "evaluate")


def test_from_a_folder_to_a_search(tmp_path: Path, encoder_folder: Path) -> None:
    rows = catalogue.rows(100)
    for row in rows:
        catalogue.draw(row, tmp_path / "shop" / row["image"])
        del row["id"]  # Paths are the ids.
    catalogue.write_table(tmp_path / "shop", rows)
    shutil.copytree(encoder_folder, tmp_path / "data/encoder")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in CHANGES.items():
        params[section] |= values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    printed = {name: stage(tmp_path, name) for name in (*STAGES, "report")}
    assert "note: column extras: multi-valued, 3 values" in printed["download"]
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert [*metrics["protocols"]] == ["catalogue"]
    assert set(metrics["protocols"]["catalogue"]) == {"sign", "toy", "mean"}
    assert 0 < metrics["protocols"]["catalogue"]["mean"]["map"] <= 100
    assert metrics["dataset"]["copy"] == "custom"
    queries = read_queries(tmp_path / "data/tables/catalogue/queries.parquet")
    assert metrics["relevance"]["queries"] == sum(q["split"] == "val" for q in queries)
    reference = next(q["reference_id"] for q in queries if q["split"] == "val")
    command(tmp_path, "index", "--dataset", "--index", "index")
    asked = ("search", "--index", "index", reference, "is cheaper", "-k", "3", "--json")
    found = json.loads(command(tmp_path, *asked, "--where", "price < 40"))["hits"]
    assert len(found) == 3
    assert all(hit["attributes"]["price"] < 40 and hit["id"] != reference for hit in found)
    # Words of people reach the queries once `download` has looked again.
    target = next(q["target_id"] for q in queries if q["reference_id"] == reference)
    pair = {"reference": reference, "target": target, "caption": "like my old one"}
    catalogue.write_table(tmp_path / "shop", [pair], "pairs.csv")
    stage(tmp_path, "download")
    assert "1 queries are by people" in stage(tmp_path, "tables")
    again = read_queries(tmp_path / "data/tables/catalogue/queries.parquet")
    assert ["like my old one"] in [q["captions"] for q in again if q["split"] == "val"]
    assert len(again) == len(queries)
