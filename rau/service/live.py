"""The served index, which is reopened in the background when it has changed."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from rau.search.model import Query
from rau.search.searcher import Searcher
from rau.service import filters
from rau.service.messages import Filter
from rau.service.uploads import Uploads

EXAMPLES = 12
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """One state of the index with its uploads, filters and examples; a request uses only one.

    Attributes:
        uploads: images of clients, encoded by the index's encoder.
        examples: ids of images spread over the index.
    """

    searcher: Searcher
    uploads: Uploads
    filters: list[Filter]
    examples: list[str]


class Live:
    """`now` is the newest state that could be opened; `problem`, why a newer one could not."""

    def __init__(self, folder: Path, device: torch.device, trust_remote_code: bool = False) -> None:
        """Open the index and run one search, so that no request waits for lazy initialisation.

        Raises:
            UserError: when the index is missing or damaged.
        """
        self._open = partial(Searcher.open, folder, device, trust_remote_code)
        self.now = _snapshot(self._open(), Uploads())
        self.problem: str | None = None

    def refresh(self) -> None:
        """Reopen the index if it has changed; on any error the old state is kept."""
        old = self.now
        try:
            if old.searcher.stale:
                searcher = self._open(loaded=old.searcher.model)
                same = searcher.model is old.searcher.model
                self.now = _snapshot(searcher, old.uploads if same else Uploads())
        except Exception as error:
            if str(error) != self.problem:
                log.warning("cannot reopen the index, still serving the old one: %s", error)
            self.problem = str(error)
        else:
            self.problem = None

    async def watch(self, seconds: float = 2) -> None:
        """Refresh every `seconds`, forever."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.refresh)


def _snapshot(searcher: Searcher, uploads: Uploads) -> Snapshot:
    searcher.search(Query(caption="a"), 1)
    names = list(searcher.index.place)
    examples = names[:: max(1, len(names) // EXAMPLES)][:EXAMPLES]
    return Snapshot(searcher, uploads, filters.of_index(searcher.index), examples)
