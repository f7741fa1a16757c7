"""A model of sentence-transformers through the whole pipeline, frozen."""

import json
from pathlib import Path

import pytest

from rau.features.table import read_features
from rau.retrieval.composed import COMPOSED
from tests import sentence_models
from tests.project import command, only_line, stage, use

pytest.importorskip("sentence_transformers", reason="needs the extra rau[st]")


def test_frozen_features_composed_queries_and_search(project: Path) -> None:
    sentence_models.blip(project / "blip")
    use(project, encoder={"name": "st:blip"})
    for name in ("encoder", "features"):
        assert "finetune.towers must be none" in only_line(stage(project, name, code=1))
    use(project, finetune={"towers": "none"})
    for name in ("encoder", "finetune", "features", "deterministic", "train", "evaluate", "report"):
        stage(project, name)
    images, pairs = (
        read_features(project / f"data/features/garments/{kind}.parquet", column)
        for kind, column in (("images", "image_id"), ("pairs", "pair"))
    )
    assert images.metadata["encoder"] == "st:blip"
    assert images.metadata["key"] == pairs.metadata["key"]
    metrics = json.loads((project / "reports/metrics.json").read_text())
    baselines = metrics["baselines"]
    assert [*baselines].index(COMPOSED) == [*baselines].index("weighted sum") + 1
    for protocol, values in baselines[COMPOSED].items():
        assert values.keys() == baselines["image only"][protocol].keys()
        assert values != baselines["image only"][protocol]
    assert COMPOSED in (project / "reports/index.html").read_text()
    assert "120 images" in command(project, "index", "--dataset", "--index", "index")
    asked = ("search", "--index", "index", "is red", "-k", "3", "--json")
    assert len(json.loads(command(project, *asked))["hits"]) == 3

    # A kept part is not encoded again; an encoder that does not compose leaves no pairs.
    parts = sorted((project / "data/.parts").rglob("pairs-*.arrow"))
    assert parts
    before = [path.stat().st_mtime_ns for path in parts]
    stage(project, "features")
    assert [path.stat().st_mtime_ns for path in parts] == before
    use(project, encoder={"name": "garments-clip"})
    for name in ("encoder", "features"):
        stage(project, name)
    assert not (project / "data/features/garments/pairs.parquet").exists()
