"""Tables of studies as files."""

import json
from pathlib import Path

import pandas as pd
import pytest

from rau.errors import UserError
from rau.studies.tables import StudyTables
from tests.studies.synthetic import (
    study_tables,
)


def test_tables_round_trip_and_damage(tmp_path: Path) -> None:
    made = study_tables()
    made.write(tmp_path / "theta")
    read = StudyTables.read(tmp_path / "theta")
    assert read.document == made.document
    pd.testing.assert_frame_equal(read.runs, made.runs)
    document = json.loads((tmp_path / "theta/study.json").read_text())
    (tmp_path / "theta/study.json").write_text(json.dumps(document | {"seeds": "three"}))
    with pytest.raises(UserError, match=r"seeds: .*; run `python -m pipeline.study theta` again"):
        StudyTables.read(tmp_path / "theta")
