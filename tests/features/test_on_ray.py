"""Encoding on a Ray cluster gives what threads here give, whatever happens to its workers."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import rau
from bench.ray_nodes import STORE_BYTES, cluster
from rau.cluster import connected
from rau.encoders import encoder as encoders
from rau.encoders import sentence_export
from rau.encoders.encoder import Encoder
from rau.errors import UserError
from rau.features import on_ray
from rau.features.cache import Cache
from rau.features.item import Item
from rau.features.items import Pair
from rau.features.parts import Parts
from rau.features.table import Features, read_features
from rau.files import digest_file
from rau.params import EncoderParams, Params
from tests import sentence_models

pytest.importorskip("ray")
BATCH = 4


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[Any]:
    with cluster(workers=2) as found:
        yield found


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "FEW", {"images": 0, "texts": 0, "pairs": 0})
    monkeypatch.setattr(on_ray, "PART_ROWS", BATCH)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(40)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    return [Item(path.stem, digest_file(path), path) for path in paths]


@contextmanager
def made(folder: Path, encoder: Encoder, encoder_folder: Path, cores: int = 0) -> Iterator[Cache]:
    """A cache that is filled on Ray, by workers of so many cores."""
    model = on_ray.Model.of(encoder, encoder_folder, Params())
    with ExitStack() as stack:
        engine = on_ray.OnRay(encoder, model, cores, stack)
        yield Cache(folder / "parts", encoder, "float32", engine)


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, pictures: list[Item], tmp_path_factory: pytest.TempPathFactory
) -> Features:
    folder = tmp_path_factory.mktemp("local")
    Cache(folder / "parts", encoder, "float32").encode_images(
        folder / "i.parquet", pictures, BATCH, 1
    )
    return read_features(folder / "i.parquet", "image_id")


def check(path: Path, expected: Features, column: str = "image_id") -> None:
    found = read_features(path, column)
    assert found.names == expected.names
    assert found.metadata == expected.metadata
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-5)


def rows_in(cache: Cache) -> list[str]:
    own = cache.parts["images"]
    return [key for _, keys in own.whole(own.names()) for key in keys]


def test_workers_of_every_node_import_the_library_that_was_sent_to_them() -> None:
    with connected("study.engine") as ray:

        def where() -> tuple[str, bytes]:
            import rau

            time.sleep(1)
            own = Path(rau.__file__)
            return ray.get_runtime_context().get_node_id(), own.read_bytes()

        task = ray.remote(num_cpus=1)(where)
        found = ray.get([task.remote() for _ in range(2)])
    assert len({node for node, _ in found}) == 2
    assert {content for _, content in found} == {Path(rau.__file__).read_bytes()}
    assert not ray.is_initialized()


def test_a_run_begins_here_and_ends_on_ray_and_the_other_way_round(
    tmp_path: Path,
    encoder: Encoder,
    encoder_folder: Path,
    pictures: list[Item],
    expected: Features,
) -> None:
    with made(tmp_path, encoder, encoder_folder) as on_workers:
        here = Cache(tmp_path / "parts", encoder, "float32")
        here.fill("images", pictures[:11], BATCH, 1)
        on_workers.fill("images", pictures[5:30], BATCH, 1)
        assert len(rows_in(here)) == 30
        here.encode_images(tmp_path / "i.parquet", pictures, BATCH, 1)
        assert len(rows_in(here)) == len(pictures)
    check(tmp_path / "i.parquet", expected)


def test_pairs_of_picture_and_text_are_encoded_as_here(
    tmp_path: Path, pictures: list[Item]
) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra rau[st]")
    sentence_models.blip(tmp_path / "blip")
    folder = tmp_path / "encoder"
    sentence_export.export(EncoderParams(name="st:blip"), folder, tmp_path)
    encoder = encoders.load(folder, torch.device("cpu"))
    pairs = [
        Pair(item, "is red" if place % 2 else "has no sleeves")
        for place, item in enumerate(pictures)
    ]
    here = Cache(tmp_path / "here", encoder, "float32")
    here.encode_pairs(tmp_path / "here.parquet", pairs, BATCH, 1)
    with made(tmp_path, encoder, folder) as cache:
        cache.encode_pairs(tmp_path / "pairs.parquet", pairs, BATCH, 1)
    expected = read_features(tmp_path / "here.parquet", "pair")
    assert len(expected.names) == len(pairs)
    check(tmp_path / "pairs.parquet", expected, "pair")


def test_workers_that_are_killed_change_nothing(
    tmp_path: Path, encoder: Encoder, encoder_folder: Path
) -> None:
    texts = [f"is {'very ' * (i % 5)}red {i}" for i in range(60)]
    done = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        """The first worker that is at work, then another one three seconds later."""
        while len(killed) < 2 and not done.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.pid not in killed and process.name().startswith("ray::Worker"):
                        process.kill()
                        killed.append(process.pid)
                        done.wait(3)
                        break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with made(tmp_path, encoder, encoder_folder) as cache:
            cache.encode_texts(tmp_path / "t.parquet", texts, BATCH, 1)
    finally:
        done.set()
        killer.join()
    assert killed
    found = read_features(tmp_path / "t.parquet", "text")
    assert found.names == texts
    np.testing.assert_allclose(found.matrix, encoder.encode_texts(texts).numpy(), atol=1e-5)


def test_what_a_worker_refuses_is_its_one_line_and_what_is_finished_stays(
    tmp_path: Path, encoder: Encoder, encoder_folder: Path, pictures: list[Item]
) -> None:
    swapped = tmp_path / "swapped.png"
    Image.new("RGB", (8, 8)).save(swapped)
    wrong = [*pictures[:-1], Item("swapped", "0" * 64, swapped)]
    with (
        made(tmp_path, encoder, encoder_folder) as cache,
        pytest.raises(UserError) as caught,
    ):
        cache.encode_images(tmp_path / "i.parquet", wrong, BATCH, 1)
    assert str(caught.value).startswith(f"{swapped} has changed since `download` verified it; run")
    assert not (tmp_path / "i.parquet").exists()
    assert len(rows_in(cache)) >= len(pictures) // 2


def mount(folder: Path, options: str) -> bool:
    """A file system of its own; False where that is not allowed."""
    command = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=20k"):
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(("umount", str(folder)), check=True)


def test_a_full_disk_is_one_line_and_what_is_finished_stays(
    disk: Path, encoder: Encoder, encoder_folder: Path, pictures: list[Item], expected: Features
) -> None:
    table = disk.parent / "i.parquet"
    with made(disk, encoder, encoder_folder) as cache:
        with pytest.raises(UserError, match=r"^cannot write .*disk/parts.*: No space left"):
            cache.encode_images(table, pictures, BATCH, 1)
        finished = rows_in(cache)
        assert 0 < len(finished) < len(pictures)
    assert mount(disk, "remount,size=8M")
    here = Cache(disk / "parts", encoder, "float32")
    here.encode_images(table, pictures, BATCH, 1)
    assert set(finished) < set(rows_in(here))
    check(table, expected)


def test_few_are_encoded_here(
    tmp_path: Path,
    encoder: Encoder,
    encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(on_ray, "FEW", {"texts": 3})
    monkeypatch.setattr(on_ray, "connected", None)
    with made(tmp_path, encoder, encoder_folder) as cache:
        cache.encode_texts(tmp_path / "t.parquet", ["a", "b"], BATCH, 1)
    assert read_features(tmp_path / "t.parquet", "text").names == ["a", "b"]
    assert "features.engine=ray: 2 texts are too few to distribute" in capsys.readouterr().out


def test_a_machine_that_sees_other_files_is_refused(
    tmp_path: Path, encoder: Encoder, encoder_folder: Path
) -> None:
    model = on_ray.Model.of(encoder, encoder_folder, Params())
    own = Parts(tmp_path / "parts", "images", "float32")
    with pytest.raises(UserError, match=r"parts does not exist on .* every machine must have"):
        on_ray.Worker(model, own, BATCH, 1, False).start()
    own.folder.mkdir()
    on_ray.Worker(model, own, BATCH, 1, False).start()
    with pytest.raises(UserError, match="contains another encoder on"):
        on_ray.Worker(replace(model, key="other"), own, BATCH, 1, False).start()


def test_workers_of_more_cores_than_any_machine_has_are_refused(
    tmp_path: Path, encoder: Encoder, encoder_folder: Path
) -> None:
    with (
        made(tmp_path, encoder, encoder_folder, cores=2) as cache,
        pytest.raises(UserError, match=r"no machine .* has the 2 cores of a worker; lower"),
    ):
        cache.encode_texts(tmp_path / "t.parquet", ["a", "b"], BATCH, 1)


def test_a_worker_has_a_gpu_and_its_share_of_that_machines_cores(
    nodes: Any, tmp_path: Path, encoder: Encoder
) -> None:
    """No GPU is needed for one to be counted: the worker misses a file before it uses it."""
    machine = nodes.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE_BYTES)
    try:
        with (
            made(tmp_path, encoder, tmp_path / "no-encoder") as cache,
            pytest.raises(UserError, match="no-encoder"),
        ):
            cache.encode_texts(tmp_path / "t.parquet", ["a", "b"], BATCH, 1)
    finally:
        nodes.remove_node(machine)
