"""The page of studies."""

import re
from dataclasses import replace

import pandas as pd

from rau.report.html import mark
from rau.report.numbers import signed
from rau.studies import (
    grid,
    registry,
    study_page,
)
from tests.report.test_report import Links
from tests.studies.synthetic import (
    study_tables,
)


def test_page_stands_alone_and_shows_every_variant() -> None:
    tables = study_tables()
    figure = registry.load("theta").figure(tables)
    assert len(figure.axes) >= 5
    section = study_page.section(tables, figure, None)
    costs = grid.costs(tables)
    assert {(costs.header[-1], row[-1]) for row in costs.rows} == {("kept epoch", "3")}
    section |= {"title": "θ<b>", "grids": {**section["grids"], "costs": costs}}
    text = study_page.render({"data": "d<script>"}, [section])
    links = Links()
    links.feed(text)
    assert all(link.startswith(("data:", "#")) for link in links.loaded)
    assert text.count("<script>") == 1
    assert "θ<b>" not in text
    for variant in tables.document.variants:
        assert variant.label in links.text
    for plot, protocol in zip(section["plots"], section["tables"], strict=True):
        for name, shown, *_ in plot.rows:
            cell = section["tables"][protocol][name]["mean_of_r10_r50"]
            assert shown == signed(cell.difference)
            assert f"{name}: {shown} [" in plot.svg.unescape()
    assert text.count("data:image/svg+xml;base64,") == 1
    assert "CSU flooded 3/3" in links.text
    assert "reference: deterministic head; longest training 5 epochs" in links.text
    stars = [mark(p) for p in tables.summary.p_holm.dropna()]
    assert {"***", ""} <= {*stars}
    assert sorted(re.findall(r"\](\**)</small></td>", text)) == sorted(
        [*stars, *[""] * int(tables.summary.p_holm.isna().sum())]
    )
    assert "50.0%" in links.text


def test_the_page_says_what_a_study_trained() -> None:
    tables = study_tables()
    assert study_page.trained(tables) == "longest training 5 epochs"
    tables.runs.loc[0, "epochs"] = 190
    along = replace(tables, document=tables.document.model_copy(update={"study": "finetune"}))
    assert study_page.trained(along) == (
        "longest training 190 epochs; every run trains an encoder, starting from `data/encoder`"
    )


def test_page_says_what_the_tuning_chose() -> None:
    rows = [
        {"method": "rau", "chosen": False, "first": 3.0, "mean": 3.0, "changes": "{}"},
        {"method": "rau", "chosen": True, "first": 4.0, "mean": 3.5, "changes": '{"ua.n": 2}'},
        {"method": "sum", "chosen": True, "first": 1.0, "mean": 1.0, "changes": "{}"},
    ]
    assert study_page.trials(pd.DataFrame(rows)).rows == [
        ["RAU head", "2", "3.00", "4.00", "3.50", "ua.n=2"],
        ["sum", "1", "1.00", "1.00", "1.00", "none"],
    ]
