"""Parameters are checked before any work, and the error names the key."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from rau import params
from rau.errors import UserError
from rau.plain_yaml import parse
from tests.places import ROOT


def load(tmp_path: Path, text: str) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.load(path)


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == params.Params()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ua: {theta: 1.5}", "ua.theta"),
        ("ua: {n: 17}", "ua.n"),
        ("ua: {n: '2'}", "ua.n"),
        ("ua: {isu: 1}", "ua.isu"),
        ("ua: {csu_weight: .nan}", "ua.csu_weight"),
        ("train: {epoch: 3}", "train.epoch"),
        ("trian: {epochs: 3}", "trian"),
        ("evaluate: {custom: {gallery: original}}", "evaluate.custom.reference"),
        ("dataset: {garments: {val_images: 10}}", "dataset.garments.val_images"),
    ],
)
def test_bad_value_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(UserError, match=key.replace(".", r"\.")) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["ua: {n: 1", "- 3", "3"])
def test_bad_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"is not (valid YAML|a mapping of sections)") as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_the_projects_own_file_names_every_parameter_at_its_default() -> None:
    path = ROOT / "params.yaml"
    assert params.load(path) == params.Params()
    assert params.flat(params.Params()).keys() == flat_keys(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("train: {temperature: .inf}", "train.temperature"),
        ("train: {lr: .nan}", "train.lr"),
        ("train: {seed: 100000000000000}", "train.seed"),
        ("train: {device: meta}", "train.device"),
        ("head: {hidden: 100000}", "head.hidden"),
    ],
)
def test_what_would_fail_late_is_refused_early(tmp_path: Path, section: str, key: str) -> None:
    with pytest.raises(UserError, match=key):
        load(tmp_path, section)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {threads: 1000000}", "train.threads"),
        ("features: {workers: 1000000}", "features.workers"),
        ("study: {jobs: 1000000}", "study.jobs"),
        ("train: {epochs: 10001}", "train.epochs"),
        ("finetune: {epochs: 10001}", "finetune.epochs"),
        ("study: {epochs: 10001}", "study.epochs"),
        ("train: {batch_size: 1000000000}", "train.batch_size"),
        ("encoder: {pairs: 1000000000}", "encoder.pairs"),
        ("dataset: {garments: {val_images: 1000000000}}", "dataset.garments.val_images"),
        ("head: {dropout: 0.99999}", "head.dropout"),
        ('dataset: {root: "a\\0b"}', "dataset.root"),
        (f"train: {{seed: 0x{'f' * 9999}}}", "train.seed"),
        (f"train: {{seed: {'9' * 9999}}}", "not valid YAML"),
        (f"encoder: {{name: {'x' * 9999}}}", "encoder.name"),
        (f"? {'x' * 9999}\n: 1", "unknown parameter"),
        ("ua: {n: 1, n: 2}", "line 1 .*'n' is a duplicate key"),
        ("ua: {n: 1}\ntrain: {}\nua: {n: 2}", "line 3 .*'ua' is a duplicate key"),
        ("a: &a [1]\nb: [*a, *a]", "an alias"),
        ("[" * 1000, "too deeply nested"),
        ("ua: {isu: !!bool x}", "not valid YAML"),
        ("ua: {n: 2026-13-01}", "ua.n"),
        ("ua: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_sizes_and_nesting_are_bounded(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-05", 1e-5), ("2E6", 2e6), ("1.", 1.0), (".5", 0.5), ("-2.5e+3", -2500.0)),
        *(("-.inf", -math.inf), ("0", 0), ("+12", 12), ("0x1f", 31), ("0o17", 15), ("1_000", 1000)),
        *(("true", True), ("False", False), ("~", None), ("", None), ("null", None)),
        *((text, text) for text in ("yes", "off", "1:30", "2024-01-01", "007", "e5", "1e", "-a")),
        *(("'1e5'", "1e5"), ("'true'", "true"), ("''", "")),
    ],
)
def test_values_are_those_of_yaml_1_2_as_dvc_writes_it(text: str, value: object) -> None:
    found = parse(f"a: {text}".encode(), "file")["a"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("ua:\r\n  n: 2\r\n".encode(encoding))
    assert params.load(path).ua.n == 2


def flat_keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix}
    return {
        k for key, v in values.items() for k in flat_keys(v, f"{prefix}.{key}" if prefix else key)
    }


def test_a_run_is_the_same_run_with_other_workers_and_connections() -> None:
    given = {
        "dataset": {"connections": 3},
        "features": {"workers": 3, "engine": "ray"},
        "finetune": {"workers": 3, "picture_cache": "never"},
        "study": {"seeds": 3},
        "track": {"model": True},
    }
    same = params.of_a_run(params.Params.model_validate(given))
    assert same == params.of_a_run(params.Params())
    assert same != params.of_a_run(params.Params.model_validate({"train": {"seed": 1}}))
