"""Models by name: a head that is not usable is refused before anything is encoded."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rau.encoders import encoder
from rau.errors import UserError
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.project import named_models, workspace
from tests.heads import RECORD, small_config


@pytest.mark.parametrize("record", [{}, RECORD | {"features": ["key"]}])
def test_a_head_with_a_malformed_record_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save(Path("other"), ComposedHead(small_config()), record)
    with pytest.raises(UserError, match=r"other: the head's .*; train it again"):
        named_models.check_encoder("other")


def test_an_encoder_with_code_of_its_own_is_trusted_as_the_parameters_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, *_: object, trust_remote_code: bool = False) -> SimpleNamespace:
        if not trust_remote_code:
            raise UserError("set encoder.trust_remote_code=true")
        return SimpleNamespace(key="k")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoder, "load", load)
    checkpoint.save(Path("other"), ComposedHead(small_config()), RECORD)
    monkeypatch.setattr(named_models, "_head_of_run", lambda *_: Path("other"))
    run = 32 * "0"
    with pytest.raises(UserError, match="trust_remote_code=true"):
        named_models.check_encoder("other")
    with pytest.raises(UserError, match=r"its encoder \(key k\) is not in this folder"):
        named_models.resolve(run, tmp_path)
    assert named_models.resolve(run, tmp_path, True).encoder == workspace.ENCODER
    workspace.PARAMS.write_text("encoder: {trust_remote_code: true}")
    named_models.check_encoder("other")
