"""Models by name: a head that is not usable is refused before anything is encoded."""

from pathlib import Path

import pytest

from rau.errors import UserError
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.project import named_models
from tests.heads import RECORD, small_config


@pytest.mark.parametrize("record", [{}, RECORD | {"features": ["key"]}])
def test_a_head_with_a_malformed_record_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save(Path("other"), ComposedHead(small_config()), record)
    with pytest.raises(UserError, match=r"other: the head's .*; train it again"):
        named_models.check_encoder("other")
