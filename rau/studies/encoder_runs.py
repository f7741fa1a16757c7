"""One run of the study `finetune`: an encoder trained together with a composer, measured on val."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch

from rau import devices
from rau.encoders import clip, label
from rau.features import cache
from rau.features.item import Item
from rau.features.items import image_items
from rau.files import digest, digest_file, digest_files
from rau.finetuning import run
from rau.finetuning.processes import Processes
from rau.params import Params, flat
from rau.retrieval.protocols import select
from rau.retrieval.tasks import protocol_tasks
from rau.schemas import MANIFEST, GalleryRow, QueryRow, read_galleries, read_queries, read_table
from rau.studies.plan import EDGES, changed
from rau.studies.runs import Result, add_val, measured_rows, of_training
from rau.training import pair_distances
from rau.training.trainer import NotFinite


@dataclass(frozen=True)
class EncoderSource:
    """Files that the runs read, and folders that they share.

    Attributes:
        encoder: folder of the encoder that every run starts from.
        manifest, queries, galleries: tables of the data set.
        images: folder that the manifest's paths are relative to.
        parts: folder of encoded parts, decoded pictures and the states that stopped runs resume
            from.
    """

    encoder: Path
    manifest: Path
    queries: Path
    galleries: Path
    images: Path
    parts: Path
    device: str

    def measuring(self, measures: tuple[str, ...]) -> Self:
        """Itself: nothing is measured on encoders in addition.

        Raises:
            ValueError: when something is asked for.
        """
        if measures:
            raise ValueError("studies of encoders have no measures")
        return self

    def digest(self) -> str:
        """Digest of the encoder and the tables; the manifest has that of every picture."""
        files = digest_files([self.manifest, self.queries, self.galleries])
        return digest([label.read_label(self.encoder).files, files], 64)

    def key(self, params: Params, data: str, device: str) -> str:
        """Name of a run in the store; it changes with the code that the metrics depend on."""
        own = run.key(params, data, "", (), torch.device(device))
        code = digest_file(Path(__file__).with_name("runs.py")), digest_file(Path(__file__))
        return digest([own, params.train.threads, measured_rows(params), code], 24)

    def kind(self, params: Params) -> tuple[str, float]:
        """The towers take nearly all of the time: composers cost the same."""
        return "encoder", params.train.fraction

    def epochs(self, params: Params) -> int:
        """Most epochs of a run."""
        return params.finetune.epochs

    def shortened(self, params: Params) -> Params:
        """The same run with one epoch."""
        return changed(params, {"finetune.epochs": 1})

    def runner(self) -> Callable[[Params], Result]:
        """Read the tables; what is returned executes runs on them.

        Raises:
            UserError: when a file is missing or malformed.
        """
        items = image_items(read_table(self.manifest, MANIFEST, "download"), self.images)
        queries, galleries = read_queries(self.queries), read_galleries(self.galleries)
        data = self.digest()
        return lambda params: self._execute(params, data, items, queries, galleries)

    def _execute(
        self,
        params: Params,
        data: str,
        items: Sequence[Item],
        queries: list[QueryRow],
        galleries: list[GalleryRow],
    ) -> Result:
        """Fine-tune, and measure the composer on the holdout and on val."""
        device = devices.choose(self.device)
        material = run.prepare(params, items, queries, galleries, with_val=True)
        state = self.parts / "finetune" / f"study-{self.key(params, data, device.type)}"
        started = time.perf_counter()
        encoder = clip.load(self.encoder, device, params.features.precision)
        processes = Processes(self.device, 1)
        pictures = self.parts / "pictures"
        try:
            frozen = partial(cache.cached, self.parts, params.features)
            found = run.finetune(
                params, encoder, material, processes, pictures, state, frozen, quiet=True
            )
        except NotFinite as error:
            shutil.rmtree(state, ignore_errors=True)
            return Result(flat(params), {}, [], {}, {}, {}, failure=str(error))
        seconds = time.perf_counter() - started
        features = found.measure.features(material.holdout)
        alignment = pair_distances.measure(found.composer, material.holdout, features)
        weights = [*found.encoder.model.parameters(), *found.composer.parameters()]
        summary: dict[str, float | None] = {
            **of_training(seconds, found.progress.history, found.progress.best_epoch),
            "parameters": sum(weight.numel() for weight in weights),
            **{f"alignment_{name}": value for name, value in alignment.items()},
        }
        cosines = pair_distances.cosine_histogram(found.composer, material.holdout, features, EDGES)
        result = Result(flat(params), summary, [], {}, {}, cosines)
        val = [query for query in queries if query["split"] == "val"]
        tasks = {
            protocol.name: protocol_tasks(protocol, val, galleries, material.names)
            for protocol in select(params.dataset.name, params.evaluate)
        }
        every = [task for own in tasks.values() for task in own]
        add_val(result, params, found.composer, found.measure.features(every), tasks)
        shutil.rmtree(state)
        return result
