"""A shard of work that is divided among several machines, given as `i/n` on a command line."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from rau.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`, from 1. Shards are disjoint and together cover everything."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `i/n`, 1 <= i <= n.

        Raises:
            UserError: when the text is anything else.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: give i/n with 1 <= i <= n, such as 1/4")
        return cls(int(found[1]), int(found[2]))

    def holds(self, part: int | str) -> bool:
        """Whether a part is in this shard: numbers are assigned in turn, keys by their SHA-256.

        A part identified by a key stays in its shard whatever other parts exist.
        """
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8])
        return part % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
