"""Log studies in MLflow: one MLflow run per study, with nested runs."""

import sys

from pipeline import stage
from rau.project import workspace


def main() -> None:
    """Create or complete the MLflow runs of the studies' tables."""
    from rau import tracking
    from rau.project.study_records import records

    dataset = workspace.load_params().dataset.name
    root = workspace.main_checkout()
    uri = tracking.store_uri(root)
    for study in workspace.finished_studies(dataset):
        parent, children = records(dataset, study)
        try:
            run, known = tracking.track(parent, uri, root / "mlruns", children)
        except tracking.TrackingUnavailable as error:
            print(f"warning: {error}; run `python -m pipeline.study_track` later", file=sys.stderr)
            return
        nested = f"{len(children)} nested ({sum(known[1:])} tracked before)"
        print(f"{study}: MLflow run {run}, {nested}")


if __name__ == "__main__":
    stage.run(main)
