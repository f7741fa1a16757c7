"""Findings: answers of settings that were measured apart, gathered on one page."""

from pathlib import Path

import pytest

from rau.studies import findings, study
from rau.studies.findings import Answer, Findings


def answer(study: str, text: str) -> Answer:
    return Answer(
        study=study, question=f"{study}?", text=text, command=f"run {study}", details=True
    )


def test_what_was_not_measured_again_stays_and_says_so() -> None:
    known = Findings(setting="s", answers=[answer("theta", "old"), answer("n", "old")])
    found = known.renewed({"commit": "c"}, [answer("n", "new"), answer("methods", "new")])
    assert [(one.study, one.text, one.current) for one in found.answers] == [
        ("methods", "new", True),
        ("theta", "old", False),
        ("n", "new", True),
    ]
    assert found.about == {"commit": "c"}


def test_a_study_is_one_row_in_the_words_of_now_with_a_line_a_setting() -> None:
    asked = answer("n", "one | two").model_copy(update={"question": "n, in older words?"})
    first = Findings(setting="garments, frozen", answers=[asked]).renewed({}, [])
    second = Findings(setting="photos", answers=[answer("n", "three"), answer("theta", "any")])
    found = findings.table([first, second], "findings").splitlines()
    assert found[2] == "| theta? | [photos](findings/photos/theta.md): any. | `run theta` |"
    assert found[3] == (
        "| n? | [garments, frozen](findings/garments-frozen/n.md) †: one \\| two.<br>"
        "[photos](findings/photos/n.md): three. | `run n` |"
    )
    assert found[-1] == findings.FOOTNOTE
    assert findings.FOOTNOTE not in findings.table([second], "findings")


def test_an_answer_of_other_code_is_marked_whichever_setting_was_written_last() -> None:
    of_now = answer("n", "new").model_copy(update={"code": study.source_digest("n")})
    older = answer("theta", "old").model_copy(update={"code": "0" * 24})
    found = findings.table([Findings(setting="photos", answers=[of_now, older])], "findings")
    assert "(findings/photos/n.md): new." in found
    assert "(findings/photos/theta.md) †: old." in found


def test_the_page_gathers_every_folder_between_its_markers(tmp_path: Path) -> None:
    page, folder = tmp_path / "findings.md", tmp_path / "findings"
    page.write_text(f"before\n{findings.START}old\n{findings.END}\nafter\n")
    for setting in ("photos", "garments, frozen"):
        Findings(setting=setting, answers=[answer("n", setting)]).write(
            folder / findings.slug(setting)
        )
    findings.write_page(page, folder)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert written.index("garments-frozen/n.md") < written.index("photos/n.md")
    findings.write_page(page, folder)
    assert page.read_text() == written
    with pytest.raises(ValueError, match="no line"):
        findings.inserted("no markers", "")
