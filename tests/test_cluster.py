"""Connecting to Ray that is not there; `tests/features/test_on_ray.py` connects to a cluster."""

import errno
import sys
import time

import pytest

from rau.cluster import connected
from rau.errors import UserError
from tests.server import free_port


def test_a_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    needs = r"features\.engine=ray needs Ray: pip install 'rau\[ray\]'"
    with pytest.raises(UserError, match=needs), connected("features.engine"):
        pass


def test_an_address_where_nobody_listens_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    port = free_port()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    started = time.monotonic()
    refused = rf"study\.engine=ray: no answer at 127\.0\.0\.1:{port}"
    with pytest.raises(UserError, match=refused), connected("study.engine"):
        pass
    assert time.monotonic() - started < 20


def test_an_address_that_no_host_can_have_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "a..b:6379")
    refused = r"study\.engine=ray: no answer at a\.\.b:6379"
    with pytest.raises(UserError, match=refused), connected("study.engine"):
        pass


def test_a_full_disk_of_ray_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def full(**options: object) -> None:
        raise RuntimeError("Failed to set up.") from OSError(errno.ENOSPC, "No space left")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", full)
    reason = r"features\.engine=ray: cannot start or reach Ray \(.*No space left\); start"
    with pytest.raises(UserError, match=reason), connected("features.engine"):
        pass
