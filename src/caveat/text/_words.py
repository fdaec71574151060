"""Words and their numbers: a tokenizer of its own, and a vocabulary learned from the training sentences."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Scripts that do not part words with spaces (kana and Han) are read sign by sign.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W{_SIGNS}]+|[^\w\s]")
_DIGIT = re.compile(r"\d")
_MOST_DIGITS = 5  # a longer number is long, whatever it is

PADDING = 0
OUT_OF_VOCABULARY = 8
"""Numbers 1 to 8 are of words that are not in the vocabulary: which of them is a hash of the word."""


def split_words(sentence: str) -> list[str]:
    """Words in lower case and signs, in order; digits are all written 0.

    Example:
        >>> split_words("Don't wait: call 555-1234!")
        ['don', "'", 't', 'wait', ':', 'call', '000', '-', '0000', '!']
    """
    matches: list[str] = _WORD.findall(unicodedata.normalize("NFKC", sentence).lower())
    words = [_DIGIT.sub("0", word) for word in matches]
    return [word[:_MOST_DIGITS] if word.strip("0") == "" else word for word in words] or [""]


@dataclass(frozen=True)
class Vocabulary:
    """Known words in the order of their numbers, the first of which is ``OUT_OF_VOCABULARY + 1``."""

    words: tuple[str, ...]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each known word."""
        return {word: OUT_OF_VOCABULARY + 1 + place for place, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def number(self, word: str) -> int:
        """The number of a word, known or not."""
        return self.numbers.get(word) or 1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % OUT_OF_VOCABULARY

    def read(self, sentences: Sequence[str], most: int) -> tuple[Tensor, int]:
        """Numbers (B, T) int64, 0 after the last word of each; and how many sentences have more than ``most`` words.

        Example:
            >>> Vocabulary(("play", "jazz")).read(["play jazz", "jazz"], most=8)
            (tensor([[ 9, 10],
                    [10,  0]]), 0)
        """
        split = [split_words(sentence) for sentence in sentences]
        truncated = sum(len(words) > most for words in split)
        longest = min(most, max(map(len, split)))
        ids = torch.full((len(split), longest), PADDING)
        for row, words in enumerate(split):
            kept = [self.number(word) for word in words[:most]]
            ids[row, : len(kept)] = torch.tensor(kept)
        return ids, truncated


def learn_vocabulary(sentences: Iterable[str], most: int) -> Vocabulary:
    """The words that stand in at least two sentences, the ``most`` frequent of them, the most frequent first.

    A word of one sentence alone is read as unknown, so that the network learns what to do with such.

    Example:
        >>> learn_vocabulary(["play jazz", "play rock", "stop"], most=10).words
        ('play',)
    """
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(set(split_words(sentence)))
    frequent = sorted((-count, word) for word, count in counts.items() if count >= 2)
    return Vocabulary(tuple(word for _, word in frequent[:most]))
