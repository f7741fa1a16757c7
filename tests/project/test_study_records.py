"""Studies in MLflow: what a nested run shows of a row of the table of runs."""

from rau.project import study_records

ROW = {"variant": "a", "seed": 1, "run": "k", "original.recall_at_1": 2.0}


def shared() -> study_records.Shared:
    diagnostics = {("a", 0): {"diagnostics": "CSU starved"}}
    varied = {*study_records.VARIED}
    return study_records.Shared("d", {}, None, varied, "original", "recall_at_1", diagnostics)


def test_a_whole_run_of_a_variant_of_which_another_failed_is_tracked() -> None:
    own = study_records.nested(shared(), ROW)
    assert own.tags == {"variant": "a", "run": "k"}
    failed = study_records.nested(shared(), ROW | {"failure": "loss"})
    assert failed.tags == {"variant": "a", "run": "k", "failure": "loss"}


def test_columns_are_parameters_or_metrics_in_the_groups_of_mlflow() -> None:
    row = ROW | {"seed": 0, "theta": 0.5, "seconds": 4.0, "original.not_in_tables": 1.0}
    row |= {"holdout_map": 3.0, "alignment_pairs": 0.25}
    found = study_records.nested(shared(), row)
    assert found.params == {"seed": 0, "theta": 0.5}
    assert found.seconds == 4.0
    assert found.tags["diagnostics"] == "CSU starved"
    # MLflow plots the first one.
    assert next(iter(found.metrics)) == "Headline"
    assert found.metrics == {
        "Headline": 2.0,
        "R1": 2.0,
        "theta": 0.5,
        "original.recall_at_1": 2.0,
        "run.holdout.map": 3.0,
        "run.alignment.pairs": 0.25,
        "run.train.seconds": 4.0,
    }


def test_the_threshold_and_n_of_a_run_are_metrics_too() -> None:
    found = study_records.nested(shared(), ROW | {"theta_quantile": 0.99, "n": 1})
    assert (found.metrics["theta_quantile"], found.metrics["n"]) == (0.99, 1)
    assert "theta" not in found.metrics
