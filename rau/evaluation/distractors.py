"""The headline's val queries ranked among any number of distractors, images that answer no query.

Distractors are streamed through memory in blocks. Units of the stream can be counted by several
machines and at different times: counts are stored in a folder and never computed again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import torch
from torch import Tensor

from rau.errors import UserError
from rau.evaluation.counted import Counted
from rau.evaluation.run_metrics import DistractorFigures
from rau.features.streamed import Stream, without
from rau.files import digest, digest_sources
from rau.progress import tqdm
from rau.retrieval import tally
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import Protocol
from rau.retrieval.tasks import BLOCK, Method, Ranked, Task, encode_all
from rau.schemas import GalleryRow, QueryRow
from rau.shards import Shard

# Seconds between writes of the counts.
SAVED_EVERY = 120.0
# What decides the counts; a test holds it to the imports.
SOURCES = (
    "datasets/captions.py",
    "evaluation/counted.py",
    "evaluation/distractors.py",
    "features/precomputed.py",
    "features/streamed.py",
    "features/table.py",
    "losses",
    "methods.py",
    "models",
    "nn",
    "retrieval",
)
ALL = Shard(1, 1)


@dataclass(frozen=True)
class Distractors:
    """Images that answer no query.

    Attributes:
        source: their file or folder, as given by the user.
        stream: their features.
        known: ids of the images in galleries and queries, which are skipped.
        folder: the folder for the counts of these images for these queries and methods.
    """

    source: str
    stream: Stream
    known: pa.Array
    folder: Path

    @classmethod
    def open(
        cls,
        source: str,
        path: Path,
        features: FeatureSet,
        queries: Sequence[QueryRow],
        galleries: Sequence[GalleryRow],
        parts: Path,
        inputs: str,
    ) -> Self:
        """Find the files.

        Args:
            source: the parameter `evaluate.distractors`.
            path: the resolved `source`.
            features: the features of the data set.
            parts: folder for the counts of all runs.
            inputs: digest of everything that the counts depend on except these files.

        Raises:
            UserError: when there are none, or they are of another encoder.
        """
        stream = Stream.open(path, features.images)
        code = digest_sources(Path(__file__).parents[1], SOURCES)
        key = digest([code, stream.digest, inputs], 32)
        return cls(source, stream, _known(queries, galleries), parts / "distractors" / key)

    def count(
        self,
        tasks: Sequence[Task],
        methods: Mapping[str, Method],
        features: FeatureSet,
        top_k: int,
        shard: Shard = ALL,
    ) -> Counted:
        """Count a shard of the images and write the counts; counts in the folder are reused.

        Of a share, what a file of a larger one holds is left to that.

        Args:
            top_k: number of best images to list.

        Raises:
            UserError: when a file is damaged or has another format.
        """
        questions = {
            (name, task.category): tally.Question.of(task, encoded)
            for name, method in methods.items()
            for task, encoded in zip(tasks, encode_all(tasks, method, features), strict=True)
        }
        none = {key: question.nothing(top_k) for key, question in questions.items()}
        wanted = {n for n in range(len(self.stream.units)) if shard.holds(n)}
        counted, others = self._counted(Counted(frozenset(), 0, 0, none), wanted)
        path, saved = self.folder / f"{shard.index}-of-{shard.count}.parquet", time.monotonic()
        left = sorted(wanted - counted.done - others)
        with tqdm(desc="distractors", total=self._rows(wanted), unit=" images") as bar:
            bar.update(self._rows(wanted.difference(left)))
            for number in left:
                counted += self._unit(number, questions, methods, features.device, top_k)
                bar.update(self._rows([number]))
                if number == left[-1] or time.monotonic() - saved > SAVED_EVERY:
                    counted.write(path)
                    saved = time.monotonic()
        return counted

    def figures(self, protocol: Protocol, counted: Counted) -> DistractorFigures:
        """The entry of `metrics.json`."""
        return DistractorFigures(
            protocol=protocol.name,
            source=self.source,
            images=counted.images,
            skipped=counted.skipped,
        )

    def _counted(self, none: Counted, wanted: set[int]) -> tuple[Counted, set[int]]:
        """The requested units found in files of the folder, starting with the largest file; and the
        units of files that also contain others, which a run over everything takes from there."""
        files = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                files.append(Counted.read(path, none))
            except UserError:
                # Damaged: its units are counted again.
                path.unlink(missing_ok=True)
        found, others = none, set[int]()
        for one in sorted(files, key=lambda one: -len(one.done)):
            if not one.done <= wanted:
                others |= one.done
            elif not one.done & found.done:
                found += one
        return found, others

    def _unit(
        self,
        number: int,
        questions: Mapping[tuple[str, str], tally.Question],
        methods: Mapping[str, Method],
        device: torch.device,
        top_k: int,
    ) -> Counted:
        """Count the images of a unit."""
        images = skipped = 0
        tallies = {key: question.nothing(top_k) for key, question in questions.items()}
        for every in self.stream.blocks(self.stream.units[number]):
            block = without(every, self.known)
            images, skipped = images + len(block.ids), skipped + len(every.ids) - len(block.ids)
            if not len(block.ids):
                continue
            features = torch.from_numpy(block.features).to(device)
            for name, method in methods.items():
                vectors = _encoded(features, method)
                for key, question in questions.items():
                    if key[0] == name:
                        tallies[key] += question.tally(block.ids, vectors, top_k)
        return Counted(frozenset([number]), images, skipped, tallies)

    def _rows(self, numbers: Iterable[int]) -> int:
        return sum(self.stream.units[number].rows for number in numbers)


def enlarged(
    counted: Counted, tasks: Sequence[Task], ranked: Mapping[str, Sequence[Ranked]]
) -> tuple[list[Task], dict[str, list[Ranked]]]:
    """Tasks and their rankings by method, in galleries that also contain the counted images."""
    larger: list[Task] = []
    lists: dict[str, list[Ranked]] = {name: [] for name in ranked}
    for number, task in enumerate(tasks):
        own = {name: ranks[number] for name, ranks in ranked.items()}
        tallies = {name: counted.tallies[name, task.category] for name in ranked}
        grown, found = tally.enlarged(task, own, tallies)
        larger.append(grown)
        for name, one in found.items():
            lists[name].append(one)
    return larger, lists


def _known(queries: Sequence[QueryRow], galleries: Sequence[GalleryRow]) -> pa.Array:
    """Ids that cannot be distractors: those of galleries and of all images in val queries."""
    known: set[str | None] = {row["image_id"] for row in galleries}
    for query in queries:
        if query["split"] == "val":
            known |= {query["reference_id"], query["target_id"]}
            known |= {*(query["relevant"] or ()), *(query["members"] or ())}
    return pa.array(sorted(name for name in known if name is not None), pa.string())


def _encoded(features: Tensor, method: Method) -> Tensor:
    """Gallery vectors (N, d) of features (N, d_image)."""
    parts = torch.split(features, BLOCK)
    return torch.cat([method.encode_gallery(part.float())[0] for part in parts])
