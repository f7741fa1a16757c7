"""What MLflow shows of the project's studies: a run per study, with a nested run per training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rau.evaluation.run_metrics import short_names
from rau.files import digest, digest_files, read_json
from rau.project import workspace
from rau.project.provenance import git_state
from rau.project.run_record import data, diagnostic_tags
from rau.studies.plan import SHOWN, headline
from rau.studies.tables import DOCUMENT, RUNS, StudyTables
from rau.tracking import Data, Record

# Columns that are parameters of a nested run, in addition to its position on the study's axes.
THETA_AND_N = ("theta", "theta_quantile", "n")
VARIED = ("head", *THETA_AND_N, "seed")


@dataclass(frozen=True)
class Shared:
    """Data shared by the runs of a study.

    Attributes:
        parent: digest of the study's record.
        varied: columns that are parameters.
        protocol, metric: protocol and metric of the headline.
        diagnostics: tags by variant and seed.
    """

    parent: str
    tags: Mapping[str, str]
    data: Data | None
    varied: set[str]
    protocol: str
    metric: str
    diagnostics: Mapping[tuple[str, int], Mapping[str, str]]


def records(dataset: str, study: str) -> tuple[Record, list[Record]]:
    """The record of a finished study and those of its runs.

    Raises:
        UserError: when a table of the study or the data of its page is missing or malformed.
    """
    folder, page = workspace.studies(dataset) / study, workspace.study_page(dataset)
    tables = StudyTables.read(folder)
    summary, document = tables.summary, tables.document
    results = digest_files([folder / DOCUMENT, folder / RUNS])
    tags, used = {"study": study, **git_state()}, data(dataset, trained=True)
    parent = Record(
        digest=digest([dataset, study, results], 32),
        name=f"{dataset} study {study}",
        params=document.model_dump(include={"study", "preset", "seeds", "reference"}),
        metrics={
            f"{line.protocol}.{line.metric}.{_safe(line.variant)}": float(line["mean"])
            for _, line in summary.iterrows()
        },
        tags=read_json(page.with_name("about.json"), "studies") | tags,
        artifacts={folder: "study", page: "", page.with_name(f"{study}.png"): "figures"},
        seconds=float(tables.runs["seconds"].sum()) if "seconds" in tables.runs else 0.0,
        data=used,
    )
    shared = Shared(
        parent.digest,
        tags,
        used,
        {*VARIED, *(name for variant in document.variants for name in variant.x)},
        summary.protocol.iloc[0],
        headline(set(summary.metric)),
        {
            (label, seed): diagnostic_tags(found)
            for label, by_seed in document.diagnostics.items()
            for seed, found in enumerate(by_seed)
        },
    )
    rows = tables.runs.iterrows()
    return parent, [nested(shared, row.dropna().to_dict()) for _, row in rows]


def nested(shared: Shared, row: Mapping[Any, Any]) -> Record:
    """The record of one run, given its row without missing values.

    Varied columns become parameters, the others metrics, including those in the view of θ and n.
    """
    label, seed, start = row["variant"], row["seed"], f"{shared.protocol}."
    # A variant with a failed run has no diagnostics.
    found = shared.diagnostics.get((label, seed), {})
    outcome = {"failure": row["failure"]} if "failure" in row else found
    own = {key.removeprefix(start): row[key] for key in row if key.startswith(start)}
    metrics = short_names(own, shared.metric) if shared.metric in own else {}
    metrics |= {key: float(row[key]) for key in THETA_AND_N if key in row}
    others = {
        _grouped(key): float(value)
        for key, value in row.items()
        if key not in {*shared.varied, "variant", "run", "failure"} and _is_shown(key)
    }
    # MLflow plots the metric that is logged first.
    metrics |= dict(sorted(others.items(), key=lambda item: item[0].startswith("run.")))
    return Record(
        digest=digest([shared.parent, label, seed], 32),
        name=f"{label}, seed {seed}",
        params={key: row[key] for key in sorted(shared.varied) if key in row},
        metrics=metrics,
        tags={**shared.tags, "variant": label, "run": row["run"], **outcome},
        seconds=row.get("seconds", 0.0),
        data=shared.data,
    )


def _is_shown(name: str) -> bool:
    """Whether a column is logged; metrics on val only if the tables show them."""
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
