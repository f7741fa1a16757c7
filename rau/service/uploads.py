"""Images sent by clients: kept in memory for searches, never written to disk."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from rau.pictures import open_rgb
from rau.search.model import Model
from rau.search.thumbnails import thumbnail

# Longer side of a thumbnail in pixels.
SHOWN = 512


@dataclass(frozen=True)
class Upload:
    """An image: `feature` (d_image,) is used for searches, `thumbnail` is a JPEG file."""

    id: str
    width: int
    height: int
    feature: Tensor
    thumbnail: bytes


class Uploads:
    """The most recently used images, by the SHA-256 of their files; thread-safe."""

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, content: bytes, model: Model) -> Upload:
        """Encode an image, unless it is already in memory.

        Raises:
            UserError: when it cannot be decoded, as in `rau.pictures.open_rgb`.
        """
        name = hashlib.sha256(content).hexdigest()
        if (held := self.get(name)) is not None:
            return held
        image = open_rgb(content)
        shown = thumbnail(image, SHOWN)
        upload = Upload(name, *image.size, model.image_feature(image), shown)
        with self._lock:
            self._held[name] = upload
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
        return upload

    def get(self, name: str) -> Upload | None:
        """An image, None if it is not in memory; it becomes the most recently used."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)
