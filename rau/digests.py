"""Positions of texts, found by digest: 24 bytes per text, whatever its length."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
BLOCK_ROWS = 65_536
Digests = NDArray[np.bytes_]
Rows = NDArray[np.int64]


def digests(texts: Iterable[str]) -> Digests:
    """The first bytes of the SHA-256 of each text, (N,).

    The probability that two of 10⁸ texts have the same digest is 1e-23.
    """
    found = bytearray()
    for text in texts:
        found += hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES]
    return np.frombuffer(found, f"S{DIGEST_BYTES}")


class Lookup:
    """The position of each of N digests; of equal ones, the first."""

    def __init__(self, known: Digests) -> None:
        self._order = known.argsort(kind="stable")
        self._sorted = known[self._order]

    def find(self, wanted: Digests) -> Rows:
        """The position of each digest; -1 if it is not known."""
        found = np.full(len(wanted), -1)
        # In blocks, as intermediate arrays take several times the memory of the result.
        for start in range(0, len(wanted) if len(self._sorted) else 0, BLOCK_ROWS):
            own = wanted[start : start + BLOCK_ROWS]
            place = self._sorted.searchsorted(own).clip(max=len(self._sorted) - 1)
            known = self._sorted[place] == own
            found[start : start + BLOCK_ROWS][known] = self._order[place[known]]
        return found

    def __contains__(self, text: str) -> bool:
        """Whether the digest of a text is known."""
        return bool(self.find(digests([text]))[0] >= 0)

    def digests(self) -> Digests:
        """The digests in the order in which they were given."""
        found = np.empty_like(self._sorted)
        found[self._order] = self._sorted
        return found
