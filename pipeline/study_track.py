"""Log studies in MLflow: one MLflow run per study, with nested runs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import stage
from pipeline.track import data, diagnostic_tags
from rau.project import workspace
from rau.project.provenance import git_state

if TYPE_CHECKING:
    from rau.tracking import Data, Record

# Columns that are parameters of a nested run, in addition to its position on the study's axes.
VARIED = ("head", "theta", "theta_quantile", "n", "seed")


def main() -> None:
    """Create or complete the MLflow runs of the studies' tables."""
    from rau import tracking

    params = workspace.load_params()
    root = workspace.main_checkout()
    uri = tracking.store_uri(root)
    for study in workspace.finished_studies(params.dataset.name):
        parent, children = _records(params.dataset.name, study)
        try:
            run, known = tracking.track(parent, uri, root / "mlruns", children)
        except tracking.TrackingUnavailable as error:
            print(f"warning: {error}; run `python -m pipeline.study_track` later", file=sys.stderr)
            return
        nested = f"{len(children)} nested ({sum(known[1:])} tracked before)"
        print(f"{study}: MLflow run {run}, {nested}")


def _records(dataset: str, study: str) -> "tuple[Record, list[Record]]":
    """The record of the study and the records of its runs."""
    from rau.files import digest, digest_files, read_json
    from rau.studies.plan import headline
    from rau.studies.tables import StudyTables
    from rau.tracking import Record

    folder, page = workspace.studies(dataset) / study, workspace.study_page(dataset)
    tables = StudyTables.read(folder)
    document, kept = tables.document, {"study", "preset", "seeds", "reference"}
    name = f"{dataset} study {study}"
    own = digest([dataset, study, digest_files([folder / "study.json", folder / "runs.csv"])], 32)
    metrics = {
        f"{line.protocol}.{line.metric}.{_safe(line.variant)}": float(line["mean"])
        for _, line in tables.summary.iterrows()
    }
    origin, read = git_state(), data(dataset, workspace.table(dataset, "queries"), trained=True)
    parent = Record(
        digest=own,
        name=name,
        params=document.model_dump(include=kept),
        metrics=metrics,
        tags={"study": study, **read_json(page.with_name("about.json"), "studies"), **origin},
        artifacts={folder: "study", page: "", page.with_name(f"{study}.png"): "figures"},
        seconds=float(tables.runs["seconds"].sum()) if "seconds" in tables.runs else 0.0,
        data=read,
    )
    diagnostics = {
        (label, seed): diagnostic_tags(found)
        for label, by_seed in document.diagnostics.items()
        for seed, found in enumerate(by_seed)
    }
    varied = {*VARIED, *(name for variant in document.variants for name in variant.x)}
    common = _Common(
        own,
        {"study": study, **origin},
        read,
        varied,
        tables.summary.protocol.iloc[0],
        headline(set(tables.summary.metric)),
        diagnostics,
    )
    rows = tables.runs.iterrows()
    return parent, [_child(common, row.dropna().to_dict()) for _, row in rows]


@dataclass(frozen=True)
class _Common:
    """Data shared by the runs of a study.

    Attributes:
        parent: digest of the study's record.
        varied: columns that are parameters.
        protocol, metric: protocol and metric of the headline.
        diagnostics: tags by variant and seed.
    """

    parent: str
    tags: dict[str, str]
    data: "Data | None"
    varied: set[str]
    protocol: str
    metric: str
    diagnostics: dict[tuple[str, int], dict[str, str]]


def _child(common: _Common, row: Mapping[Any, Any]) -> "Record":
    """The record of one run, given its row without missing values.

    Varied columns become parameters, the others metrics, including those in the view of θ and n.
    """
    from rau.evaluation.run_metrics import short_names
    from rau.files import digest
    from rau.tracking import Record

    label, seed, start = row["variant"], row["seed"], f"{common.protocol}."
    # A variant with a failed run has no diagnostics.
    found = common.diagnostics.get((label, seed), {})
    told = {"failure": row["failure"]} if "failure" in row else found
    own = {key.removeprefix(start): row[key] for key in row if key.startswith(start)}
    metrics = short_names(own, common.metric) if common.metric in own else {}
    metrics |= {key: float(row[key]) for key in ("theta", "n") if key in row}
    others = {
        _grouped(key): float(value)
        for key, value in row.items()
        if key not in {*common.varied, "variant", "run", "failure"} and _is_shown(key)
    }
    # MLflow plots the metric that is logged first.
    metrics |= dict(sorted(others.items(), key=lambda item: item[0].startswith("run.")))
    return Record(
        digest=digest([common.parent, label, seed], 32),
        name=f"{label}, seed {seed}",
        params={key: row[key] for key in sorted(common.varied) if key in row},
        metrics=metrics,
        tags={**common.tags, "variant": label, "run": row["run"], **told},
        seconds=row.get("seconds", 0.0),
        data=common.data,
    )


def _is_shown(name: str) -> bool:
    """Whether a column is logged; metrics on val only if the tables show them."""
    from rau.studies.plan import SHOWN

    return "." not in name or name.split(".")[1] in SHOWN


def _grouped(name: str) -> str:
    """Name of a column in MLflow, which groups metrics on val, holdout, alignment and training."""
    if "." in name:
        return name
    for group in ("holdout", "alignment"):
        if name.startswith(f"{group}_"):
            return f"run.{group}.{name.removeprefix(f'{group}_')}"
    return f"run.train.{name}"


def _safe(name: str) -> str:
    """Convert a name to what MLflow accepts: letters, digits and a few other characters."""
    plain = name.replace("θ", "theta").replace("σ", "sigma").replace("+", "and").replace("=", "")
    return " ".join("".join(c if c.isalnum() or c in "_-. /" else " " for c in plain).split())


if __name__ == "__main__":
    stage.run(main)
