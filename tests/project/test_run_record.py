"""A run in MLflow: its note, its tags, its time and memory."""

import pytest

from rau.project import run_record
from rau.project.timings import Timing
from tests.report.test_report import PAIRED, document, metrics


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([-1.5, -0.1], "excludes 0"), ([0.1, 1.5], "excludes 0"), ([-1.5, 0.1], "contains 0")],
)
def test_the_note_has_the_headline_and_its_difference_to_the_deterministic_head(
    interval: list[float], verdict: str
) -> None:
    against = document()["against"]
    against["original"]["mean"]["mean_of_r10_r50"] = PAIRED | {"interval": interval}
    found = run_record.note(metrics(against=against))
    assert "**60.00** [58.50, 61.50] mean_of_r10_r50, protocol original" in found
    low, high = interval
    assert f"-0.75 [{low:+.2f}, {high:+.2f}] against the deterministic head" in found
    assert verdict in found
    assert "**CSU starved**: 0.01 extra; lower it" in found


def test_tags_name_each_diagnostic_and_where_the_head_comes_from() -> None:
    found = run_record.tags(metrics())
    assert found["diagnostics"] == "CSU starved"
    assert found["diagnostic.CSU starved"] == "0.01 extra; lower it"
    assert found["trained_on"] == "nothing"
    assert run_record.tags(metrics(head="models:/mine@newest"))["trained_on"] == "unknown"
    assert run_record.diagnostic_tags([]) == {"diagnostics": "none"}


def test_time_and_memory_of_a_gpu_only_where_one_was_used() -> None:
    timings = {
        "train": Timing(seconds=1.5, peak_memory_bytes=7, peak_device_bytes=9),
        "tables": Timing(seconds=0.5, peak_memory_bytes=3),
    }
    assert dict(run_record.time_and_memory(timings)) == {
        "time.train_seconds": 1.5,
        "memory.train_bytes": 7,
        "memory.train_device_bytes": 9,
        "time.tables_seconds": 0.5,
        "memory.tables_bytes": 3,
    }
