"""Connecting to Ray that is not there; `tests/features/test_on_ray.py` connects to a cluster."""

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
