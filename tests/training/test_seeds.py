"""Random streams of one seed are independent, and the same for every method."""

from typing import Any

import pytest
import torch

from rau.params import HeadParams
from rau.training.fit import make_trainer, prepare
from rau.training.sampler import Batch
from rau.training.seeds import Stream, epoch_seed
from rau.training.trainer import Trainer
from tests.training.test_trainer import params, synthetic


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_streams_epochs_and_seeds_all_differ() -> None:
    seeds = [
        epoch_seed(seed, stream, epoch)
        for seed in range(4)
        for stream in Stream
        for epoch in range(20)
    ]
    # A CPU generator reads 32 bits of its seed.
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)


def test_what_an_epoch_draws_comes_from_three_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Stream, int]] = []

    def noted(seed: int, stream: Stream, epoch: int) -> int:
        found = epoch_seed(seed, stream, epoch)
        asked.append((stream, found))
        return found

    for module in ("rau.training.sampler", "rau.training.trainer"):
        monkeypatch.setattr(f"{module}.epoch_seed", noted)
    features, queries = synthetic()
    chosen = params()
    make_trainer(chosen, features, prepare(chosen.train, features, queries))._epoch(0)
    assert {stream for stream, _ in asked} == set(Stream) - {Stream.PICTURES}
    assert len({seed for _, seed in asked}) == len(Stream) - 1


def test_every_method_sees_the_same_batches_and_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    features, queries = synthetic()
    step = Trainer._step

    def seen(name: str, seed: int) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []

        def noted(self: Trainer, number: int, batch: Batch) -> torch.Tensor:
            found.extend(batch)
            return step(self, number, batch)

        monkeypatch.setattr(Trainer, "_step", noted)
        head: dict[str, Any] = {"name": name, "dropout": 0.5}
        chosen = params(seed=seed).model_copy(update={"head": HeadParams.model_validate(head)})
        trainer = make_trainer(chosen, features, prepared)
        for epoch in range(2):
            trainer._epoch(epoch)
        return found

    prepared = prepare(params().train, features, queries)
    expected = seen("rau", 0)
    for name in ("deterministic", "combiner", "tirg", "mur", "pcmepp"):
        assert same(seen(name, 0), expected), name
    assert not same(seen("rau", 1), expected)
    half = len(expected) // 2
    assert not same(expected[:half], expected[half:])
