"""The stage `evaluate` with distractors, in shares and as a whole, up to its report."""

import json
from pathlib import Path

import numpy as np

from rau.evaluation.run_metrics import RunMetrics
from rau.features.table import read_features, write_features
from rau.project.run_record import final_metrics
from tests.project import stage, use


def test_shares_are_counted_then_measured_and_reported(project: Path) -> None:
    assert "set evaluate.distractors" in stage(project, "evaluate", "--shard", "1/2", code=1)
    images = read_features(project / "data/features/garments/images.parquet", "image_id")
    matrix = np.random.default_rng(0).normal(size=(500, images.matrix.shape[1]))
    folder = project / "others"
    folder.mkdir()
    for number, rows in enumerate(np.array_split(matrix.astype(np.float16), 2)):
        names = [f"other {number} {row}" for row in range(len(rows))]
        names[0] = images.names[number]
        write_features(folder / f"{number}.parquet", "image_id", names, [rows], images.metadata)
    use(project, evaluate={"distractors": "others"})
    known = json.loads((project / "reports/metrics.json").read_text())
    assert "--shard 3/2: give i/n" in stage(project, "evaluate", "--shard", "3/2", code=1)
    for share in ("1/2", "2/2"):
        printed = stage(project, "evaluate", "--shard", share)
        assert f"  shard {share}: 2" in printed.splitlines()[-1]
    assert json.loads((project / "reports/metrics.json").read_text()) == known
    stage(project, "evaluate")
    metrics = json.loads((project / "reports/metrics.json").read_text())
    added = metrics["distractors"]
    assert added["protocol"] == "original-distractors"
    assert added["source"] == "others"
    assert added["images"] + added["skipped"] == 500
    ours = metrics["protocols"]["original-distractors"]["mean"]
    assert 0 <= ours["recall_at_10"] <= metrics["protocols"]["original"]["mean"]["recall_at_10"]
    same = {name: metrics[name] for name in known if name != "distractors"}
    assert same["headline"] == known["headline"]
    assert same["protocols"]["original"] == known["protocols"]["original"]
    stage(project, "report")
    page = (project / "reports/index.html").read_text()
    assert "original-distractors" in page
    assert f"Every gallery also contains {added['images']} images of others" in page
    tracked = final_metrics(RunMetrics.read(project / "reports/metrics.json"))
    assert tracked["original-distractors.recall_at_10"] == ours["recall_at_10"]
