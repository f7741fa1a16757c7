"""CLIP's tokens word by word, each word encoded once: captions say the same words over and over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from open_clip import SimpleTokenizer
from torch import Tensor


def quick(tokenizer: Any) -> Any:
    """The same tokenizer, faster where it is CLIP's own."""
    plain = type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None
    return WordTokenizer(tokenizer) if plain else tokenizer


class WordTokenizer:
    """Gives what `SimpleTokenizer` gives, (N, context) int64.

    Its cleaning mends Unicode and HTML and leaves other ASCII as it is, and no token reaches over
    white space: a text of printable ASCII without `&` is its words, one after another.
    """

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._words: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens of the texts, cut to the context and padded with zeros."""
        first, last = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        context = self._tokenizer.context_length
        tokens = np.zeros((len(texts), context), dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            inner = self._encode(text)[: context - 2]
            row[: len(inner) + 2] = [first, *inner, last]
        return torch.from_numpy(tokens)

    def _encode(self, text: str) -> list[int]:
        if not (text.isascii() and text.isprintable()) or "&" in text:
            found: list[int] = self._tokenizer.encode(text)
            return found
        tokens: list[int] = []
        for word in text.split():
            known = self._words.get(word)
            if known is None:
                known = self._words[word] = self._tokenizer.encode(word)
            tokens += known
        return tokens
