"""Models of sentence-transformers are copied, loaded offline and encode as the library itself."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rau.encoders import encoder, sentence, sentence_export
from rau.encoders.clip import load as load_clip
from rau.errors import UserError
from rau.params import EncoderParams
from tests import sentence_models

st = pytest.importorskip("sentence_transformers", reason="needs the extra rau[st]")
CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"
TEXTS = ["is red", "has no sleeves and is longer"]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's own folder."""
    return sentence_models.blip(tmp_path_factory.mktemp("given") / "blip")


@pytest.fixture(scope="module")
def folder(given: Path) -> Path:
    """The encoder's folder of it."""
    export("blip", given.parent / "encoder", given.parent)
    return given.parent / "encoder"


@pytest.fixture
def changed(given: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; its name is `st:model`."""
    return shutil.copytree(given, tmp_path / "model")


def export(model: str, to: Path, root: Path, **params: Any) -> None:
    sentence_export.export(EncoderParams(name=f"st:{model}", **params), to, root)


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (70, 30, 3), np.uint8)
    return [Image.fromarray(noise), Image.new("RGB", (30, 60), "red")]


@pytest.mark.parametrize("make", [sentence_models.blip, sentence_models.qwen_vl])
def test_features_are_the_librarys_own(make: Callable[[Path], Path], tmp_path: Path) -> None:
    given = make(tmp_path / "model")
    export("model", tmp_path / "out", tmp_path)
    ours = sentence.load(tmp_path / "out", CPU)
    theirs = st.SentenceTransformer(str(given), device="cpu")
    theirs.prompts = ours.model.prompts = {"query": "very ", "document": "no "}
    expected = theirs.encode_document(pictures(), convert_to_tensor=True)
    assert torch.equal(ours.encode_images(pictures()), expected)
    assert torch.equal(ours.encode_texts(TEXTS), theirs.encode_query(TEXTS, convert_to_tensor=True))
    pairs: list[Any] = [{"image": i, "text": t} for i, t in zip(pictures(), TEXTS, strict=True)]
    assert ours.encode_pairs is not None
    found = ours.encode_pairs(pictures(), TEXTS)
    assert torch.equal(found, theirs.encode_query(pairs, convert_to_tensor=True))
    # Both count.
    for images, texts in ((pictures()[::-1], TEXTS), (pictures(), TEXTS[::-1])):
        other = ours.encode_pairs(images, texts)
        assert torch.cosine_similarity(other, found).max() < 0.999


def test_prompts_are_those_of_queries_and_documents(folder: Path) -> None:
    loaded = sentence.load(folder, CPU)
    plain = loaded.encode_texts(TEXTS)
    loaded.model.prompts = {"query": "very ", "document": "no "}
    prompted = loaded.encode_texts(TEXTS)
    assert torch.cosine_similarity(prompted, plain).max() < 0.9999
    loaded.model.prompts = {}
    assert torch.equal(loaded.encode_texts([f"very {text}" for text in TEXTS]), prompted)


def test_no_text_is_taken_for_an_address(folder: Path, tmp_path: Path) -> None:
    loaded = encoder.load(folder, CPU)
    picture = tmp_path / "red.png"
    pictures()[1].save(picture)
    # As an image the first would be fetched, the second read: both have features of texts.
    texts = ["http://127.0.0.1:9/red.png", str(picture), "very [UNK]"]
    found = loaded.encode_texts(texts)
    as_image = loaded.encode_images(loaded.load_images([picture]))
    assert torch.cosine_similarity(found, as_image).max() < 0.99


def test_texts_beyond_the_context_are_counted(folder: Path) -> None:
    loaded = sentence.load(folder, CPU)
    most = " ".join(["red"] * (sentence_models.CONTEXT - 2))
    assert loaded.count_cut([]) == loaded.count_cut([most, "red"]) == 0
    assert loaded.count_cut([most, f"{most} red"]) == 1
    loaded.model.prompts = {"query": "very "}
    assert loaded.count_cut([most]) == 1


def test_the_key_is_that_of_the_files(folder: Path, changed: Path, tmp_path: Path) -> None:
    first = encoder.load(folder, CPU)
    assert first.image_key == first.text_key == first.key
    export("model", tmp_path / "same", tmp_path)
    assert encoder.load(tmp_path / "same", CPU).key == first.key
    weights = load_file(changed / WEIGHTS)
    weights["visual_projection.weight"] *= 2
    save_file(weights, changed / WEIGHTS, {"format": "pt"})
    export("model", tmp_path / "other", tmp_path)
    other = encoder.load(tmp_path / "other", CPU)
    assert other.key != first.key
    made = {"key": first.key, "arithmetic": "float32"}
    assert encoder.load_maker(folder, CPU, made).key == first.key
    with pytest.raises(UserError, match="another encoder"):
        encoder.load_maker(tmp_path / "other", CPU, made)


def test_precision_is_that_of_the_weights(folder: Path) -> None:
    half = sentence.load(folder, CPU, "bfloat16")
    assert half.dtype == half.model.dtype == torch.bfloat16
    found, exact = half.encode_texts(TEXTS), sentence.load(folder, CPU).encode_texts(TEXTS)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert torch.cosine_similarity(found, exact).min() > 0.99


def test_damage_is_found(folder: Path, tmp_path: Path) -> None:
    for name in (WEIGHTS, "tokenizer.json", "modules.json"):
        broken = shutil.copytree(folder, tmp_path / name)
        content = bytearray((broken / name).read_bytes())
        content[len(content) // 2] ^= 1
        (broken / name).write_bytes(content)
        with pytest.raises(UserError, match="contains files other than those written"):
            encoder.load(broken, CPU)


def test_other_forms_and_pickles_are_left_behind(changed: Path, tmp_path: Path) -> None:
    left = ("pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", ".cache/x.json", "own.py")
    for name in left:
        (changed / name).parent.mkdir(exist_ok=True)
        (changed / name).write_bytes(b"anything")
    export("model", tmp_path / "out", tmp_path)
    kept = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert WEIGHTS in kept
    assert not kept & {"pytorch_model.bin", "onnx", ".cache", "own.py"}


def test_weights_that_are_only_pickled_are_refused(changed: Path, tmp_path: Path) -> None:
    (changed / WEIGHTS).rename(changed / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin holds weights as a pickle"):
        export("model", tmp_path / "out", tmp_path)
    (changed / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"no \.safetensors file"):
        export("model", tmp_path / "out", tmp_path)
    (changed / "2_Dense").mkdir()
    (changed / "2_Dense" / "pytorch_model.bin").write_bytes(b"anything")
    (changed / WEIGHTS).write_bytes(b"anything")
    with pytest.raises(UserError, match=r"2_Dense/pytorch_model\.bin holds"):
        export("model", tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lost", "kind"), [("visual_projection.weight", "images"), ("text_projection.weight", "texts")]
)
def test_weights_drawn_at_random_are_refused(
    changed: Path, tmp_path: Path, lost: str, kind: str
) -> None:
    weights = load_file(changed / WEIGHTS)
    del weights[lost]
    save_file(weights, changed / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match=f"other features of {kind} each time"):
        export("model", tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_model_without_an_image_tower(tmp_path: Path) -> None:
    sentence_models.bert(tmp_path / "bert")
    with pytest.raises(UserError, match="has no image tower") as caught:
        export("bert", tmp_path / "out", tmp_path)
    assert "\n" not in str(caught.value)


def test_code_of_a_model_runs_only_where_it_is_trusted(
    changed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    sentence_models.add_code(changed)
    with pytest.raises(UserError, match=r"set encoder\.trust_remote_code=true"):
        export("model", tmp_path / "out", tmp_path)
    export("model", tmp_path / "out", tmp_path, trust_remote_code=True)
    with pytest.raises(UserError, match=r"set encoder\.trust_remote_code=true"):
        encoder.load(tmp_path / "out", CPU)
    trusted = encoder.load(tmp_path / "out", CPU, trust_remote_code=True)
    assert torch.equal(trusted.encode_texts(TEXTS), encoder.load(folder, CPU).encode_texts(TEXTS))


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("nowhere/at/all", None, "is not a folder"),
        ("./nowhere", None, "is not a folder"),
        ("", None, r"no \.safetensors file"),
        ("blip", "main", r"encoder\.pretrained must be null"),
    ],
)
def test_bad_names_stop_before_anything_is_fetched(
    tmp_path: Path, name: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export(name, tmp_path / "out", tmp_path, pretrained=pretrained)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_the_hub_is_checked_and_then_fetched(
    given: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [path.name for path in given.iterdir()]
    asked: list[Any] = []

    def info(_: Any, repository: str) -> Any:
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=n) for n in names])

    def fetch(repository: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, sorted(allow_patterns)))
        return str(given)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    export("tiny", tmp_path / "out", tmp_path)
    assert asked == [("sentence-transformers/tiny", "c0ffee", sorted(names))]
    found = encoder.load(tmp_path / "out", CPU)
    assert (found.name, found.weights) == ("st:tiny", "c0ffee")
    assert found.key == encoder.load(folder, CPU).key
    names.remove(WEIGHTS)
    names.append("pytorch_model.bin")
    with pytest.raises(UserError, match="holds weights as a pickle"):
        export("org/tiny", tmp_path / "again", tmp_path)
    assert len(asked) == 1
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_: json.loads("no\n{"))
    with pytest.raises(UserError, match=r"encoder\.name=st:org/tiny cannot be fetched: Expecting"):
        export("org/tiny", tmp_path / "again", tmp_path)


def test_the_extra_is_named_where_it_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        old.setattr(st, "__version__", "5.9.1")
        with pytest.raises(UserError, match=r"6\.2 or later.*\(it is 5\.9\.1\)"):
            encoder.load(folder, CPU)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for work in (
        lambda: encoder.load(folder, CPU),
        lambda: export("any/name", tmp_path / "out", tmp_path),
    ):
        with pytest.raises(UserError, match=r"pip install 'rau\[st\]'"):
            work()


def test_both_kinds_are_loaded_by_their_label(folder: Path, encoder_folder: Path) -> None:
    assert isinstance(encoder.load(folder, CPU), sentence.Encoder)
    clip = encoder.load(encoder_folder, CPU)
    assert clip.key == load_clip(encoder_folder, CPU).key
    assert clip.encode_pairs is None
