"""A share of work that several machines divide among themselves, as `i/n` on a command line."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from rau.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, from 1. Shares are disjoint, and together they are everything."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that `i/n` names, 1 <= i <= n.

        Raises:
            UserError: when the text is anything else.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: give i/n with 1 <= i <= n, such as 1/4")
        return cls(int(found[1]), int(found[2]))

    def holds(self, part: int | str) -> bool:
        """Whether a part is in this share: a number in turn, a key by its SHA-256.

        By a key a part stays in its share whatever other parts there are.
        """
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8])
        return part % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
