"""Both engines keep the same promises; the exact one also finds exactly the nearest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rau.search.engines import exact
from rau.search.engines.engine import Engine, Queries, Vectors
from rau.search.engines.exact import Exact
from rau.search.where import parse

DIM = 16
SCHEMA = pa.schema([("kind", pa.string()), ("price", pa.int64())])
Make = Callable[[], Engine]


def unit(seed: int, count: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


def attributes(start: int, count: int) -> pa.Table:
    numbers = range(start, start + count)
    kinds = ["abc"[number % 3] for number in numbers]
    return pa.table({"kind": kinds, "price": pa.array(numbers, pa.int64())}, SCHEMA)


def names(start: int, count: int) -> Any:
    return pa.array([f"p'{number}" for number in range(start, start + count)])


def flush(engine: Engine) -> None:
    if not engine.exact:
        engine.flush()  # type: ignore[attr-defined]


@pytest.fixture(name="make", params=["exact", "graphs", "codes"])
def _make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    if request.param == "exact":
        return Exact
    from rau.search.engines import lance
    from rau.search.engines.lance import Lance

    monkeypatch.setattr(lance, "GRAPHS", 1000 if request.param == "graphs" else 100)
    return lambda: Lance.new(tmp_path, SCHEMA, DIM)


def test_rows_that_were_added_are_found_and_deleted_ones_are_not(make: Make) -> None:
    engine, vectors = make(), unit(0, 300)
    engine.add(names(0, 200), attributes(0, 200), vectors[:200])
    engine.add(names(200, 100), attributes(200, 100), vectors[200:])
    flush(engine)
    asked = vectors[[7, 250]].astype(np.float32)
    first, second = engine.search(asked, 3)
    assert (first.ids[0], second.ids[0]) == ("p'7", "p'250")
    assert first.scores[0] == pytest.approx(1, abs=2e-3)
    assert [*first.scores] == sorted(first.scores, reverse=True)
    engine.delete(["p'7", "p'250"])
    flush(engine)
    for one in engine.search(asked, 300):
        assert not {"p'7", "p'250"} & {*one.ids}
    engine.add(names(7, 1), attributes(7, 1), vectors[7:8])
    flush(engine)
    assert engine.search(asked[:1], 1)[0].ids == ["p'7"]


def test_a_filter_never_lets_another_row_pass(make: Make) -> None:
    engine, vectors = make(), unit(0, 300)
    engine.add(names(0, 300), attributes(0, 300), vectors)
    flush(engine)
    where = parse("kind = 'a' and price < 12", SCHEMA)
    (found,) = engine.search(vectors[:1].astype(np.float32), 10, where)
    assert {*found.ids} == {"p'0", "p'3", "p'6", "p'9"}
    assert (
        engine.search(vectors[:1].astype(np.float32), 10, parse("price < 0", SCHEMA))[0].ids == []
    )


@pytest.mark.parametrize("make", ["codes"], indirect=True)
def test_a_filter_finds_what_no_probed_partition_has(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rau.search.engines import lance

    one = lance.Reading(1, 1)
    monkeypatch.setattr(lance, "READING", dict.fromkeys(lance.READING, one))
    engine, vectors = make(), unit(0, 600)
    engine.add(names(0, 600), attributes(0, 600), vectors)
    flush(engine)
    for asked in vectors[:20].astype(np.float32):
        (found,) = engine.search(asked[None], 10, parse("price < 20", SCHEMA))
        assert len(found.ids) == 10
        (found,) = engine.search(asked[None], 10, parse("price = 7", SCHEMA))
        assert found.ids == ["p'7"]


@pytest.mark.parametrize(("rows", "kind"), [(300, "IvfHnswSq"), (301, "IvfPq")])
def test_an_index_of_more_is_of_codes_and_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, kind: str
) -> None:
    from rau.search.engines import lance

    monkeypatch.setattr(lance, "GRAPHS", 300)
    columns = SCHEMA.names
    engine = lance.Lance.new(tmp_path, SCHEMA, DIM)
    engine.add(names(0, rows), attributes(0, rows), unit(0, rows))
    state = engine.flush()
    again = lance.Lance.continued(tmp_path, columns, state)
    again.add(names(rows, 300), attributes(rows, 300), unit(1, 300))
    last = lance.Lance.open(tmp_path, columns, again.flush())
    for one in (engine, again, last):
        assert one.reading == lance.READING[kind]
    (found,) = last.search(unit(1, 300)[[7]].astype(np.float32), 1)
    assert found.ids == [f"p'{rows + 7}"]


@pytest.mark.parametrize("memory", [0, 3000, exact.MEMORY])
def test_exact_is_a_sort_of_all_scores(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(exact, "CHUNK", 64)
    rng = np.random.default_rng(3)
    vectors = (rng.integers(-1, 2, (500, DIM)) / 4).astype(np.float16)
    vectors[rng.integers(0, 500, 100)] = vectors[:100]  # Equal scores, also at the last place.
    engine = Exact(memory)
    for start in (0, 130, 400):
        stop = {0: 130, 130: 400, 400: 500}[start]
        engine.add(names(start, stop - start), attributes(start, stop - start), vectors[start:stop])
    gone = rng.permutation(500)[:50]
    engine.delete([f"p'{number}" for number in gone])
    # Halves and few of them: products are exact in any order, so that ties are ties.
    queries: Queries = vectors[:20].astype(np.float32)
    scores = queries @ vectors.astype(np.float32).T
    scores[:, gone] = -np.inf
    for k in (1, 7, 449, 450, 600):
        order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, 450)]
        for one, row in zip(engine.search(queries, k), order, strict=True):
            assert one.ids == [f"p'{number}" for number in row]
