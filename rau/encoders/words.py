"""CLIP's tokens word by word, each word encoded once: captions say the same words over and over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
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
        plain = [_plain(text) for text in texts]
        # All words at once, outside Python: a loop over texts would keep encoding threads waiting.
        kept = [text if p else "" for text, p in zip(texts, plain, strict=True)]
        words = pc.ascii_split_whitespace(pa.array(kept, pa.string()))
        values, bounds = self._spell(words.flatten())
        ends = bounds[words.offsets.to_numpy()]
        lengths = np.minimum(np.diff(ends), context - 2)
        columns = np.arange(context - 2)
        inside = columns < lengths[:, None]
        tokens = np.zeros((len(texts), context), dtype=np.int64)
        tokens[:, 0] = first
        tokens[:, 1:-1][inside] = values[(ends[:-1, None] + columns)[inside]]
        tokens[np.arange(len(texts)), lengths + 1] = last
        for row in [row for row, p in enumerate(plain) if not p]:
            inner = self._tokenizer.encode(texts[row])[: context - 2]
            tokens[row, 1 : len(inner) + 2] = [*inner, last]
        return torch.from_numpy(tokens)

    def _spell(self, words: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Tokens of all words (T,), and where each word's begin and end (words + 1,)."""
        coded = words.dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        for word in distinct:
            if word not in self._words:
                self._words[word] = self._tokenizer.encode(word)
        lists = pa.array([self._words[word] for word in distinct], pa.list_(pa.int64()))
        spelled = lists.take(coded.indices)
        return spelled.values.to_numpy(), spelled.offsets.to_numpy()


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "&" not in text
