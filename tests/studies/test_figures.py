"""Figures of studies."""

from dataclasses import replace

from rau.studies import (
    registry,
    study_page,
)
from tests.studies.synthetic import (
    study_tables,
)


def test_variants_at_one_point_of_a_figure_are_named_together() -> None:
    for apart, names in ((0.0, ["n = 0, n = 1, n = 2"]), (0.2, ["n = 0", "n = 1", "n = 2"])):
        made = study_tables("n", apart)
        deep = made.summary.replace("recall_at_10", "recall_at_50")
        figure = registry.load("n").figure(replace(made, summary=deep))
        assert [text.get_text() for text in figure.axes[0].texts] == names


def test_a_figure_of_the_values_of_the_plots_is_left_out() -> None:
    tables = study_tables()
    same = replace(tables, document=tables.document.model_copy(update={"study": "ablation"}))
    section = study_page.section(same, registry.load("ablation").figure(same), None)
    text = study_page.render({}, [section])
    assert "data:image" not in text
    assert section["plots"][0].svg in text
