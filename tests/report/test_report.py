"""The page stands alone, shows every number, and frames the right pictures."""

import json
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from rau.errors import UserError
from rau.evaluation.run_metrics import RunMetrics
from rau.project.run_record import final_metrics
from rau.report import examples, published_results, run_page, run_plots
from rau.report.image_strips import GAP, GONE, INK, RELEVANT, TARGET, TILE, Strip, draw
from rau.report.run_report import RunReport
from rau.retrieval.protocols import FASHIONIQ
from rau.schemas import RANKINGS, RankingRow
from rau.table_metadata import CUT_TEXTS
from rau.training.history import COLUMNS, read_history, summary, to_csv

MINUS = "\N{MINUS SIGN}"
ROW = {"recall_at_1": 5.0, "recall_at_10": 41.25, "mean_of_r10_r50": 60.0}
PAIRED = {"difference": -0.75, "interval": [-1.5, -0.1], "p": 0.004}
PARAMS = {"ua.theta": 0.7, "ua.theta_quantile": None, "ua.n": 1}
ENDS = {"recall_at_10": [39.0, 43.0]}
ALONE = {
    **{"metric": "mean_of_r10_r50", "cut": 10, "better": "image only"},
    **{"reference": 0.25, "caption": 0.125, "either": 0.3125, "methods": {}},
}

SHIRT = ALONE | {"better": "text only", "either": 0.5}


def composed(methods: dict[str, Any]) -> dict[str, Any]:
    """The composition of a protocol, the same in every category."""
    return dict.fromkeys(("mean", "dress", "shirt"), ALONE | {"methods": methods})


def document() -> dict[str, Any]:
    """What `metrics.json` of a run could hold."""
    by_protocol = {p.name: {"mean": ROW, "dress": ROW, "shirt": ROW} for p in FASHIONIQ}
    ends = {p.name: {"mean": ENDS, "dress": ENDS, "shirt": ENDS} for p in FASHIONIQ}
    return {
        "method": "RAU head",
        "diagnostics": [{"name": "CSU starved", "evidence": "0.01 extra", "remedy": "lower it"}],
        "against": {
            p.name: dict.fromkeys(("mean", "dress", "shirt"), dict.fromkeys(ROW, PAIRED))
            for p in FASHIONIQ
        },
        "dataset": {"name": "garments<script>", "copy": "built in"},
        "encoder": {"encoder": "e", "weights": "w"},
        "coverage": {
            "images": 9,
            "images_expected": 10,
            "missing": 1,
            "corrupt": 0,
            "val_images": 5,
            "val_images_expected": 6,
            "val_queries": 4,
            "val_queries_usable": 3,
        },
        "relevance": {"median": 6.0, "mean": 7.5, "queries": 4},
        "headline": {
            "protocol": "original",
            "metric": "mean_of_r10_r50",
            "value": 60.0,
            "interval": [58.5, 61.5],
        },
        "training": {
            "best_epoch": 3,
            "select": "map",
            "text_weights": {"kept-forward": 0.5},
            "alignment": {"pairs": 0.1, "negatives": 0.2, "closer": 0.9},
            "queries": {
                "train": 8,
                "holdout": 2,
                "dropped": 1,
                "unusable": 0,
                "left_out": 3,
                "replaced": 2,
            },
        },
        "protocols": by_protocol,
        "intervals": ends,
        "baselines": {"image only": by_protocol},
        "baseline_intervals": {"image only": ends},
        "galleries": {p.name: {"dress": 500, "shirt": 300} for p in FASHIONIQ},
    }


ADDED = {"protocol": "original", "source": "others", "images": 5, "skipped": 1}


def metrics(**changed: Any) -> RunMetrics:
    """The record of `document()` with some values replaced."""
    return RunMetrics.model_validate_json(json.dumps(document() | changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": {"encoder": "e"}}, "encoder has no weights"),
        ({"galleries": {"original": {"dress": 5}}}, "other categories than its galleries"),
        ({"intervals": {}}, "protocol original has no intervals"),
        ({"baseline_intervals": {}}, "has no intervals of image only"),
        ({"baselines": {"x": {"original": {"mean": ROW}}}}, "of x has other metrics"),
        ({"against": {"original": {"mean": {}}}}, "has no differences to the deterministic head"),
        ({"headline": {**document()["headline"], "protocol": "x"}}, "the headline is not one of"),
        ({"headline": {**document()["headline"], "value": 101.0}}, "headline.value"),
        ({"protocols": {"original": {"mean": {"recall_at_1": -1.0}}}}, "recall_at_1"),
        ({"relevance": {"median": 1.0, "mean": 1.0, "queries": -1}}, "relevance.queries"),
        ({"composition": {"original": composed({})}}, "the composition is of other methods"),
        ({"composition": {"original": {"mean": ALONE}}}, "composition is of other categories"),
        ({"distractors": ADDED | {"protocol": "x"}}, "the distractors' protocol is not one of"),
        ({"distractors": ADDED | {"images": -1}}, "distractors.images"),
    ],
)
def test_metrics_that_no_page_can_be_made_of(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(document() | changed))
    remedy = r"run `python -m pipeline\.evaluate` again"
    with pytest.raises(UserError, match=f"{said}.*{remedy}"):
        RunMetrics.read(path)


class Links(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


NO_RANKS = pa.Table.from_pylist([], RANKINGS)


def page_of(
    found: RunMetrics,
    params: dict[str, Any] = PARAMS,
    shown: Sequence[examples.Example] = (),
    rankings: pa.Table = NO_RANKS,
) -> str:
    """The page of a run, without plots of its training."""
    recall = run_plots.recall_curve(found, rankings)
    made = {"commit": "0123abc", "machine": "two cores"}
    return run_page.render(found, FASHIONIQ, params, recall, [], shown, made)


def test_page_stands_alone_and_shows_the_numbers() -> None:
    params = {"ua.theta": 0.7, "ua.theta_quantile": 0.99, "ua.n": 1}
    html = page_of(metrics(), params)
    links = Links()
    links.feed(html)
    assert all(link.startswith("#") for link in links.loaded)
    assert "default-src 'none'" in html
    text = " ".join(links.text.split())
    for shown in (
        "60.00",
        "[58.50, 61.50]",
        "It is 0.75 points below the deterministic head [{0}1.50, {0}0.10], which exceeds",
        "41.25",
        "[39.0, 43.0]",
        "9 of 10 images; 3 of 4 val queries usable",
        "median of 6",
        "garments<script> (built in)",
        "original / kept / forward",
        "val-union / removed / separate",
        "chance R@10 2.00",
        "difference to the deterministic head",
        "{0}0.75** [{0}1.5, {0}0.1]",
        "CSU starved 0.01 extra To adjust: lower it.",
        "quantile 0.99, 1",
        "commit0123abc",
    ):
        assert shown.format(MINUS) in text, shown
    assert "8 queries (train.fraction left out 3), 2 of them with a wrong target" in html
    assert html.count("<script") == 1


@pytest.mark.parametrize(
    ("difference", "interval", "said"),
    [
        (0.0, [0.0, 0.0], "It is equal to that of the deterministic head [0.00, 0.00]."),
        (
            -1e-4,
            [-0.3, 0.2],
            f"It is equal to that of the deterministic head [{MINUS}0.30, +0.20].",
        ),
        (0.0, None, "It is equal to that of the deterministic head."),
        (0.02, [-0.3, 0.2], "It is 0.02 points above the deterministic head"),
    ],
)
def test_equal_methods_are_said_to_be_equal(
    difference: float, interval: list[float] | None, said: str
) -> None:
    paired = {"difference": difference, "interval": interval, "p": None}
    against = {
        p.name: dict.fromkeys(("mean", "dress", "shirt"), dict.fromkeys(ROW, paired))
        for p in FASHIONIQ
    }
    assert said in render(against=against)


@pytest.mark.parametrize(
    ("encoder", "dataset", "said"),
    [
        ({"encoder": "garments-clip"}, {"name": "garments", "copy": "built in"}, None),
        (
            {"encoder": "garments-clip"},
            {"name": "fashioniq", "copy": "official"},
            "rendered garments",
        ),
        ({"encoder": "garments-clip"}, {"name": "garments", "copy": "custom"}, "rendered garments"),
        ({"encoder": "ViT-B-32"}, {"name": "fashioniq", "copy": "official"}, None),
        (
            {CUT_TEXTS: "1,012 of 3,000"},
            {"name": "cirr", "copy": "official"},
            "1,012 of 3,000 texts",
        ),
    ],
)
def test_cautions_are_on_the_page_in_the_terminal_and_in_mlflow(
    encoder: dict[str, str], dataset: dict[str, str], said: str | None
) -> None:
    found = metrics(encoder={"encoder": "e", "weights": "w"} | encoder, dataset=dataset)
    page = page_of(found)
    assert ("Caution" in page) == (said is not None)
    assert (said or "") in page
    assert (f"warning: {found.cautions[0]}" if said else "") in run_page.text_table(found)
    assert final_metrics(found)[CUT_TEXTS] == (1012 if CUT_TEXTS in encoder else 0)


def test_every_table_has_a_name_of_its_own() -> None:
    page = page_of(metrics())
    names = re.findall(r'role="region" aria-label="([^"]+)"', page)
    assert "values of Recall at K, protocol original" in names
    assert "parameters" in names
    values = [name for name in names if name.startswith("values of ")]
    assert len({*values}) == page.count('<svg class="plot"')


def test_terminal_table_has_every_method() -> None:
    text = run_page.text_table(metrics())
    assert text.count("RAU head") == text.count("image only") == 2
    assert "41.25" in text
    assert text.count("difference to deterministic") == 2
    assert "-0.75" in text
    assert "CSU starved: 0.01 extra; lower it" in text


def test_composition_is_on_the_page_in_the_terminal_and_in_mlflow() -> None:
    own = {"image only": {"gap": PAIRED | {"difference": 0.0}, "alone": 1.0}}
    own["RAU head"] = {"gap": PAIRED | {"difference": 12.25}, "alone": 0.375}
    found = metrics(composition={"original": composed(own) | {"shirt": SHIRT | {"methods": own}}})
    words = "the reference alone solves 25.0% of the queries, the caption alone 12.5%, at least one"
    text = run_page.text_table(found)
    page = page_of(found)
    assert all(f"{words} 31.2%" in whole for whole in (text, page))
    assert all("by mean of R@10 and R@50 is image only" in whole for whole in (text, page))
    assert "+12.25            37.5%" in text
    assert f"<td>+12.25 <small>[{MINUS}1.5, {MINUS}0.1]</small></td><td>37.5 %</td>" in page
    # In every table of the protocol that has it; the better modality has no gap to itself.
    assert page.count("over image only, mean of R@10 and R@50") == 2
    assert page.count("over text only, mean of R@10 and R@50") == 1
    assert "at least one 50.0%; the better one by mean of R@10 and R@50 is text only" in page
    assert "<td></td><td>100.0 %</td>" in page
    tracked = final_metrics(found)
    assert tracked["original.mean_of_r10_r50.over_single_modality"] == 12.25
    assert tracked["original.solved_by_one_modality"] == 31.25
    assert tracked["original.found_by_one_modality"] == 37.5


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for name in "abcdefghijkl":
        paths[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (30, 60), "grey").save(paths[name])
    return paths


def colour(name: str) -> tuple[int, ...]:
    return tuple(int(name[i : i + 2], 16) for i in (1, 3, 5))


def luminance(name: str) -> float:
    """WCAG's relative luminance; text on white reads well below 0.18, a contrast of 4.5."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour(name))
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def test_strip_frames_target_and_other_answers(pictures: dict[str, Path]) -> None:
    ranked = [pictures[name] for name in "bcdefghijk"]
    strip = draw(Strip(pictures["a"], "is red", ranked, target_at=6, relevant_at=frozenset({0, 6})))

    def frame(index: int) -> object:
        x = 2 * TILE + (index % 5) * (TILE + GAP) + 1
        y = GAP + (index // 5) * (TILE + 15 + GAP) + 1
        return strip.getpixel((x, y))

    assert frame(6) == colour(TARGET)
    assert frame(0) == colour(RELEVANT)
    assert frame(3) == (255, 255, 255)
    # A rank is written in the colour of its frame.
    assert all(luminance(name) < 0.18 for name in (RELEVANT, INK))


def row(name: str, rank: int | None) -> RankingRow:
    """A ranked query of `pictures`."""
    top = list("bcdefghijk")
    return {
        "query_id": name,
        "method": "RAU head",
        "protocol": "original",
        "category": "dress",
        "text": "is red",
        "reference_id": "a",
        "target_id": top[rank - 1] if rank and rank <= 10 else "l",
        "target_rank": rank,
        "subset_rank": None,
        "average_precision": None,
        "uncertainty": None,
        "target_uncertainty": None,
        "top": top,
        "scores": [],
    }


def test_examples_are_of_their_group(pictures: dict[str, Path]) -> None:
    rows = [row(f"q{i}", rank) for i, rank in enumerate([1, 1, 4, 30, 99, None])]
    chosen = examples.choose(rows, pictures, 5)
    ids = [[row["query_id"] for row in found] for found in chosen.values()]
    assert ids == [["q0", "q1"], ["q2"], ["q4", "q5"]]
    shown = examples.mixed(chosen, pictures, {"q2": ["e", "b"]})
    assert [one.query_id for one in shown] == ["q0", "q2", "q4", "q1", "q5"]
    assert [one.words for one in shown[1].top[:4]] == ["correct", "", "", "target"]
    assert [one.right for one in shown] == [None, 2, None, None, None]
    text = " ".join(page_of(metrics(), shown=shown).split())
    assert "target at rank 4, 2 of the 10 shown are correct <small>dress, q2" in text
    assert "target at rank 99 <small>dress, q4" in text
    assert all(f"<b>{name}</b>" in text for name in examples.RESULTS)
    assert not any(examples.choose(rows, {}, 5).values())


def test_choosing_queries_does_not_pass_through_all_pictures_for_each() -> None:
    class Many(dict[str, Path]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("passed through")

    paths = Many({"r": Path("r.png"), "t": Path("t.png")})
    ranked: RankingRow = {**row("q0", 1), "reference_id": "r", "top": ["t"]}
    assert len(examples.choose([ranked], paths, 1)["success"]) == 1


def test_a_query_without_its_target_was_not_ranked_and_is_no_example(
    pictures: dict[str, Path],
) -> None:
    unranked: RankingRow = {**row("q0", None), "target_id": "gone", "top": []}
    chosen = examples.choose([unranked, row("q1", None)], pictures, 5)
    assert [one["query_id"] for one in chosen["failure"]] == ["q1"]


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 17, 23, 24, 35, 1000])
def test_examples_are_evenly_spaced(size: int) -> None:
    rows = [row(str(place), 1) for place in range(size)]
    shown = [int(one["query_id"]) for one in examples.evenly(rows, 12)]
    assert len(shown) == min(size, 12)
    steps = [after - before for before, after in pairwise([-1, *shown, size])]
    assert min(steps) >= 1
    # A share of the rows, and one more by rounding.
    assert max(steps) <= size / 12 + 1


def test_history_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows: list[dict[str, Any]] = [dict.fromkeys(COLUMNS) | {"epoch": n} for n in (1, 2)]
    rows[0]["loss"], rows[1]["csu"] = 0.5, 2.0
    path.write_text(to_csv(rows))
    read = read_history(path)
    assert read["loss"][0] == 0.5
    assert np.isnan(read["csu"][0])
    with pytest.raises(UserError, match="no epoch 3, which the head is of"):
        summary(read, 3)
    damaged = (
        ("", "not a table"),
        (to_csv(rows).replace("0.5", "x"), "not a table"),
        (to_csv([{"epoch": 1}]), "no column loss"),
        (to_csv([rows[1], rows[0]]), "epochs are not numbered"),
        (to_csv(rows).splitlines()[0], "no rows"),
    )
    for damage, said in damaged:
        path.write_text(damage)
        with pytest.raises(UserError, match=said):
            read_history(path)
    with pytest.raises(UserError, match="is missing"):
        read_history(tmp_path / "no.csv")


def render(**changed: Any) -> str:
    """The text of a page whose metrics differ from `document()`."""
    links = Links()
    params = {"ua.theta": 0.7, "ua.theta_quantile": 0.99, "ua.n": 1}
    links.feed(page_of(metrics(**changed), params))
    return " ".join(links.text.split())


OFFICIAL = {"name": "fashioniq", "copy": "official", "differs": [], "unverified": {}}
WHOLE = {
    "images": 10,
    "images_expected": 10,
    "missing": 0,
    "corrupt": 0,
    "val_images": 6,
    "val_images_expected": 6,
    "val_queries": 4,
    "val_queries_usable": 4,
}


def test_published_figures_stand_beside_the_same_protocol_of_official_data() -> None:
    text = render(dataset=OFFICIAL, coverage=WHOLE)
    original, val = text.split("Protocol val: mean")
    assert "SPRC" in original
    assert "SPRC" not in val
    assert "RAU (the paper), CLIP RN50 survey arXiv 2409.05405; encoders" in val
    assert "; protocol inferred" in val
    assert "55.27" in val
    assert "55.27" not in original
    assert "not comparable" not in text


@pytest.mark.parametrize("copy", ["custom", "built in"])
def test_other_copies_have_no_published_figures(copy: str) -> None:
    text = render(dataset=OFFICIAL | {"copy": copy, "differs": ["captions/x.json"]})
    assert "CLIP4Cir" not in text
    assert ("it differs in captions/x.json" in text) == (copy == "custom")


def test_gaps_stand_in_every_table_and_make_figures_incomparable() -> None:
    gaps = document()["coverage"] | {"unusable": "miss"}
    text = render(dataset=OFFICIAL, coverage=gaps)
    line = "9 of 10 images; 3 of 4 val queries usable, the others count as misses"
    tables = 2 * 3
    assert text.count(line) == 2 + tables
    assert "not comparable: val images are missing here" in text
    outside = render(dataset=OFFICIAL, coverage=gaps | {"val_images": 6})
    assert "not comparable" not in outside
    assert "images outside val are missing here" in outside
    assert "the others left out" in render(coverage=gaps | {"unusable": "leave_out"})


def test_figures_of_another_split_are_marked() -> None:
    cirr = metrics(dataset=OFFICIAL | {"name": "cirr"}, coverage=WHOLE)
    rows = published_results.select(published_results.comparable(cirr), "cirr", "all")
    assert len(rows) > 5
    assert {note for row in rows for note in row.notes} == {"not comparable: measured on test1"}
    assert all(row.encoders and row.chosen_on for row in rows)


def test_a_missing_calibration_is_explained() -> None:
    text = render()
    assert "Confidence No probabilities: the holdout or val has too few usable queries" in text
    assert "No probabilities: the head was not trained here." in render(head="elsewhere")


def test_a_metric_that_one_category_alone_has_is_not_paired() -> None:
    scores = {"mean": ROW, "dress": ROW | {"map": 12.5}, "shirt": ROW}
    protocols = dict.fromkeys(("original", "val"), scores)
    text = render(protocols=protocols, baselines={"image only": protocols})
    assert text.count("12.50") == 4
    paired = f"{MINUS}0.75** [{MINUS}1.5, {MINUS}0.1]"
    assert text.count(f"head{3 * paired}–") == 2


def test_the_deterministic_head_is_described_as_it_was_trained() -> None:
    text = render(method="CLIP4Cir Combiner")
    assert "is our fusion without uncertainty, trained with the same seed on the same" in text
    assert "Differences to it have 95 % bootstrap intervals" in text
    assert "the same head" not in text
    assert "trained with the same seed" not in render(head="elsewhere")
    without = document()["headline"] | {"interval": None}
    assert "Differences to it" not in render(headline=without)


def test_no_metric_has_its_raw_name_on_the_page() -> None:
    training = document()["training"] | {"select": "mean_of_r10_r50"}
    methods = {name: {"gap": PAIRED, "alone": 0.5} for name in ("image only", "RAU head")}
    text = render(training=training, composition={"original": composed(methods)})
    assert "chose epoch 3 by mean of R@10 and R@50" in text
    assert "mean_of" not in text


def test_every_published_row_is_used() -> None:
    counted = 0
    for name in ("fashioniq", "cirr", "circo"):
        of = metrics(dataset=OFFICIAL | {"name": name}, coverage=WHOLE)
        counted += sum(len(row.values) for row in published_results.comparable(of))
    assert counted == len(published_results.read()) == 275


def test_a_report_replaces_the_pictures_of_the_one_before(tmp_path: Path) -> None:
    page, figures = tmp_path / "index.html", tmp_path / "figures"
    RunReport("first", {"sigma.svg": b"1", "loss.svg": b"1"}).write(page, figures)
    RunReport("second", {"loss.svg": b"2"}).write(page, figures)
    assert page.read_text() == "second"
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == {"loss.svg": b"2"}


def test_a_picture_that_became_junk_or_a_bomb_is_a_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("whole", "junk", "bomb", "gone")]
    Image.new("RGB", (50, 50), "red").save(paths[0])
    paths[1].write_text("junk")
    Image.new("RGB", (90, 90), "red").save(paths[2])
    monkeypatch.setattr("rau.pictures.MAX_PIXELS", 2500)
    drawn = draw(Strip(paths[1], "is red", paths))
    places = [(2 * TILE + index * (TILE + GAP) + TILE // 2, GAP + 20) for index in range(4)]
    assert [drawn.getpixel(place) for place in places] == [(255, 0, 0)] + [colour(GONE)] * 3


def test_a_caption_without_end_is_cut() -> None:
    heights = [draw(Strip(None, "is red " * times, [])).height for times in (1_000, 100_000)]
    assert heights[0] == heights[1] < 1_000
