"""Pictures that clients sent: held in memory for their searches, never written to disk."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from rau.pictures import open_rgb
from rau.search.model import Model
from rau.search.thumbnails import thumbnail

# The longer side of what is shown of one.
SHOWN = 512


@dataclass(frozen=True)
class Upload:
    """A picture: `feature` (d_image,) is what is searched with, `thumbnail` a JPEG file."""

    id: str
    width: int
    height: int
    feature: Tensor
    thumbnail: bytes


class Uploads:
    """The pictures used last, by the SHA-256 of their files; any number of threads may ask."""

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, content: bytes, model: Model) -> Upload:
        """Encode a picture, unless it is held.

        Raises:
            UserError: when it cannot be decoded, as in `rau.pictures.open_rgb`.
        """
        name = hashlib.sha256(content).hexdigest()
        if (held := self.get(name)) is not None:
            return held
        picture = open_rgb(content)
        shown = thumbnail(picture, SHOWN)
        upload = Upload(name, *picture.size, model.image_feature(picture), shown)
        with self._lock:
            self._held[name] = upload
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
        return upload

    def get(self, name: str) -> Upload | None:
        """A picture that is held; it is the last to be dropped now."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)
