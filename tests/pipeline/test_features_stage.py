"""Encoding by shares and on a cluster, as commands."""

import shutil
from pathlib import Path

from rau.features.table import read_features
from tests.project import stage, use


def forget(project: Path) -> None:
    """What was encoded before."""
    for folder in (project / "data/.parts").glob("*-float32-float16"):
        shutil.rmtree(folder)


def features(project: Path) -> list[list[float]]:
    found = []
    for kind, column in (("images", "image_id"), ("texts", "text")):
        table = read_features(project / f"data/features/garments/{kind}.parquet", column)
        assert len(table.names)
        found.append(table.matrix.astype(float).ravel().tolist())
    return found


def encoded(project: Path) -> int:
    return len([*(project / "data/.parts").glob("*-float32-float16/*.arrow")])


def test_shares_then_a_plain_run_give_the_tables(project: Path) -> None:
    before = features(project)
    forget(project)
    tables = project / "data/features"
    shutil.rmtree(tables)
    stage(project, "features", "--shard", "2/2")
    assert not tables.exists()
    by_one = encoded(project)
    assert by_one
    stage(project, "features", "--shard", "1/2")
    by_both = encoded(project)
    assert by_both > by_one
    stage(project, "features")
    # Nothing was left to encode.
    assert encoded(project) == by_both
    for old, new in zip(before, features(project), strict=True):
        assert max(abs(a - b) for a, b in zip(old, new, strict=True)) < 0.05


def test_a_share_that_is_none_is_refused(project: Path) -> None:
    assert "--shard 3/2: give i/n" in stage(project, "features", "--shard", "3/2", code=1)
    use(project, features={"source": "own"})
    printed = stage(project, "features", "--shard", "1/2", code=1)
    assert "--shard: with features.source nothing is encoded" in printed


def test_with_little_to_encode_no_cluster_is_started(project: Path) -> None:
    before = features(project)
    forget(project)
    use(project, features={"engine": "ray"})
    printed = stage(project, "features", RAY_ADDRESS="127.0.0.1:1")
    assert "features.engine=ray: 360 images are too few to distribute" in printed
    for old, new in zip(before, features(project), strict=True):
        assert max(abs(a - b) for a, b in zip(old, new, strict=True)) < 0.05
