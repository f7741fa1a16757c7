"""Val alone up to a report, untrained and by a head trained elsewhere: CIRCO, which has no train
split, and copies of FashionIQ and CIRR without theirs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rau.models import checkpoint
from tests import circo_data, cirr_data, synthetic
from tests.project import only_line, own_features, runs, stage, use

AFTER = ("finetune", "features", "deterministic", "train", "evaluate", "report", "track")


def measured(project: Path) -> dict[str, Any]:
    """What the last run says of itself."""
    found: dict[str, Any] = json.loads((project / "reports/metrics.json").read_text())
    return found


def test_val_alone_runs_to_a_report(project: Path) -> None:
    circo_data.write_annotations(project / "circo")
    circo_data.write_images(project / "circo")
    # What cannot be is said before anything is encoded.
    use(project, dataset={"name": "circo", "root": "circo"})
    assert "70 of 70 images; 12 of 12 val queries usable" in stage(project, "download")
    assert "0 train queries have their images" in stage(project, "tables")
    assert "0 usable train queries" in only_line(stage(project, "finetune", code=1))
    use(project, finetune={"towers": "none"})
    assert "head.name=raw_sum" in only_line(stage(project, "finetune", code=1))
    head, extra = checkpoint.load(project / "data/models/garments", "cpu")
    extra["features"]["key"] = "another"
    checkpoint.save(project / "other", head, extra)
    use(project, train={"head": "other"})
    said = "train.head=other: it was trained on features of garments-clip (key another)"
    assert said in only_line(stage(project, "finetune", code=1))

    # A method that has nothing to train.
    use(project, train={"head": None}, head={"name": "raw_sum"})
    for name in AFTER:
        stage(project, name)
    found = measured(project)
    assert (found["headline"]["protocol"], found["headline"]["metric"]) == ("circo", "map_at_5")
    assert {*found["protocols"]} == {"circo", "circo-concept"}
    assert (found["training"]["queries"]["train"], found["against"]) == (0, {})
    assert {*found["aspects"]["circo"]["raw sum"]} == {*circo_data.ASPECTS}
    assert not any("weighted" in name for name in found["baselines"])
    page = (project / "reports/index.html").read_text()
    assert "nothing: the method needs no training" in page
    assert "mAP@10 of the queries of each semantic aspect" in page
    assert "θ, n" not in page
    for protocol in found["protocols"]:
        document = json.loads((project / f"data/submissions/{protocol}_test.json").read_text())
        assert {len(images) for images in document.values()} == {50}

    # A head of garments, with the encoder that was fine-tuned for it.
    use(
        project,
        train={"head": "data/models/garments"},
        encoder={"name": "local-dir:data/finetuned/garments/encoder"},
    )
    for name in ("encoder", *AFTER):
        stage(project, name)
    found = measured(project)
    assert (found["method"], found["head"]) == ("RAU head", "data/models/garments")
    assert found["training"]["dataset"] == "garments"
    assert {*found["against"]} == {"circo", "circo-concept"}
    page = (project / "reports/index.html").read_text()
    assert "taken from data/models/garments" in page
    assert "None: the head was not trained here." in page
    taken = project / "data/models/circo/head.safetensors"
    weights = (project / "data/models/garments/head.safetensors").read_bytes()
    assert taken.read_bytes() == weights
    assert [path.name for path in taken.parent.iterdir()] == [taken.name]
    tracked = runs(project)
    run = tracked["circo RAU head of data/models/garments"]
    assert (run["tags"]["trained_on"], run["params"]["train.head"]) == (
        "garments",
        "data/models/garments",
    )
    assert not [name for name in run["params"] if name.startswith(("ua.", "head.", "theta"))]
    assert "circo.negation.map_at_10" in run["metrics"]

    # The same head by a revision and by a run, which has no deterministic one.
    revision = ("HEAD", True)
    (tracked_run,) = {name for name in tracked if name.startswith("garments")}
    for name, paired in (revision, (run_id(project, tracked_run), False)):
        use(project, train={"head": name})
        stage(project, "train")
        assert taken.read_bytes() == weights
        assert ("no head" not in stage(project, "deterministic")) == paired
    stage(project, "evaluate")
    assert measured(project)["against"] == {}
    use(project, train={"head": "nowhere"})
    assert "nowhere: no project's folder, no MLflow run id" in only_line(
        stage(project, "train", code=1)
    )


def write_whole(project: Path, name: str) -> None:
    """A small FashionIQ or CIRR with all of its splits in `whole`, and with val alone in `val`."""
    whole = project / "whole"
    if name == "cirr":
        pictures = next((project / "data/raw").iterdir()) / "images"
        cirr_data.write(whole, sorted(pictures.glob("*.jpg")))
    else:
        synthetic.write_annotations(whole, images=150)
        (whole / "images").mkdir()
        for path in whole.glob("image_splits/*.json"):
            for image in json.loads(path.read_text()):
                (whole / f"images/{image}.jpg").write_bytes(synthetic.picture(image))
    shutil.copytree(whole, project / "val", ignore=shutil.ignore_patterns("*train*", "*test*"))


@pytest.mark.parametrize(("name", "usable"), [("fashioniq", "147 of 147"), ("cirr", "72 of 72")])
def test_a_copy_without_train_runs_to_a_report(project: Path, name: str, usable: str) -> None:
    write_whole(project, name)
    use(
        project,
        dataset={"name": name, "root": "val"},
        finetune={"towers": "none"},
        head={"name": "raw_sum"},
    )
    assert f"{usable} val queries usable" in stage(project, "download")
    assert "0 train queries have their images" in stage(project, "tables")
    for one in AFTER[:-1]:
        stage(project, one)
    found = measured(project)
    assert (found["method"], found["training"]["queries"]["train"]) == ("raw sum", 0)
    assert found["against"] == {}
    page = (project / "reports/index.html").read_text()
    assert "nothing: the method needs no training" in page

    # A head that was trained on the whole copy, in separate spaces of images and texts.
    use(
        project,
        dataset={"root": "whole"},
        features={"source": "own"},
        head={"name": "rau"},
    )
    for one in ("download", "tables"):
        stage(project, one)
    own_features(project)
    for one in ("encoder", "finetune", "features", "deterministic", "train", "evaluate"):
        stage(project, one)
    whole = measured(project)
    assert whole["training"]["queries"]["train"] > 0
    for suffix in ("", "-deterministic"):
        shutil.copytree(
            project / f"data/models/{name}{suffix}", project / f"trained/{name}{suffix}"
        )
    use(project, dataset={"root": "val"}, train={"head": f"trained/{name}"})
    for one in ("download", "tables", *AFTER[:-1]):
        stage(project, one)
    found = measured(project)
    assert (found["head"], found["training"]["dataset"]) == (f"trained/{name}", name)
    # Val is the same, and so are all of its figures: those of the ridge map's baselines too.
    assert "weighted sum (ridge map)" in found["baselines"]
    for figures in ("protocols", "baselines", "against", "composition"):
        assert found[figures] == whole[figures], figures
    assert f"taken from trained/{name}" in (project / "reports/index.html").read_text()


def run_id(project: Path, name: str) -> str:
    """Id of the tracked run of this name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("rau")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return next(str(run.info.run_id) for run in found if run.info.run_name == name)
