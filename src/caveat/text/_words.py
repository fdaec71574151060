"""Sentences as weighted terms: words, pairs of words and pieces of words, learned from the training sentences.

A term's weight is its TF-IDF, with the logarithm of how often it stands in the sentence; words and pairs have a norm of
1 together, and pieces have. See "Term-weighting approaches in automatic text retrieval", Salton and Buckley, 1988.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

# Scripts that do not part words with spaces (kana and Han) are read sign by sign.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W{_SIGNS}]+|[^\w\s]")
_DIGIT = re.compile(r"\d")
_MOST_DIGITS = 5  # a longer number is long, whatever it is
_PIECE = "#"  # before a piece; no word of more than one sign begins so, and no piece has the space of a pair
_SHORTEST, _LONGEST = 2, 5  # letters of a piece
_READ_OF_A_WORD = 40  # letters whose pieces are taken
_PIECES_UP_TO = 64  # words of a training sentence on average: of long texts the words say enough, and pieces cost most

PADDING = 0
OUT_OF_VOCABULARY = 8
"""Numbers 1 to 8 are of words that are not in the vocabulary: which of them is a hash of the word."""


def split_words(sentence: str) -> list[str]:
    """Returns words in lower case and signs, in order; digits are all written 0.

    Example:
        >>> split_words("Don't wait: call 555-1234!")
        ['don', "'", 't', 'wait', ':', 'call', '000', '-', '0000', '!']
    """
    matches: list[str] = _WORD.findall(unicodedata.normalize("NFKC", sentence).lower())
    words = [_DIGIT.sub("0", word) for word in matches]
    return [word[:_MOST_DIGITS] if word.strip("0") == "" else word for word in words] or [""]


@dataclass(frozen=True)
class Vocabulary:
    """Known terms in the order of their numbers, the first of which is ``OUT_OF_VOCABULARY + 1``.

    Fields:
        terms: Words, pairs of words with a space between them, and pieces of words behind a ``#``.
        counts: Number of training sentences that each stands in.
        sentences: Number of training sentences.
        pieces: Whether pieces of words are read.
    """

    terms: tuple[str, ...]
    counts: tuple[int, ...]
    sentences: int
    pieces: bool

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each known term."""
        return {term: OUT_OF_VOCABULARY + 1 + place for place, term in enumerate(self.terms)}

    @cached_property
    def rarity(self) -> Array:
        """The inverse document frequency of each number; unknown words count as words of one sentence."""
        counts = np.array([1] * (OUT_OF_VOCABULARY + 1) + list(self.counts))
        return np.log((1 + self.sentences) / (1 + counts)) + 1

    @cached_property
    def is_piece(self) -> Array:
        """Whether each number is of a piece of a word."""
        return np.array([False] * (OUT_OF_VOCABULARY + 1) + [is_piece(term) for term in self.terms])

    def __len__(self) -> int:
        return len(self.terms)

    def number(self, word: str) -> int:
        """Returns the number of a word, known or not."""
        return self.numbers.get(word) or 1 + zlib.crc32(word.encode("utf-8", "surrogatepass")) % OUT_OF_VOCABULARY

    def read(self, sentences: Sequence[str], most: int | None) -> tuple[Tensor, int]:
        """Returns numbers of terms beside their weights, and how many sentences have more than ``most`` words.

        Args:
            sentences: B sentences.
            most: Number of words that are read of each; None for all.

        Returns:
            (B, T, 2) float32: the numbers rise along T; behind the last there are zeros.

        Example:
            >>> Vocabulary(("play", "jazz"), (2, 2), 2, pieces=False).read(["play jazz", "jazz"], 8)[0][..., 0]
            tensor([[ 9., 10.],
                    [10.,  0.]])
        """
        split = [split_words(sentence) for sentence in sentences]
        truncated = 0 if most is None else sum(len(words) > most for words in split)
        rows, terms = _flatten([words[:most] for words in split], self.pieces, self.number, self._known)
        size = len(self.rarity)
        keys, often = np.unique(rows * size + terms, return_counts=True)
        rows, terms = keys // size, keys % size
        weights = (1 + np.log(often)) * self.rarity[terms]
        block = 2 * rows + self.is_piece[terms]
        weights /= np.sqrt(np.bincount(block, weights**2))[block]
        lengths = np.bincount(rows, minlength=len(split))
        place = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
        inputs = np.zeros((len(split), lengths.max(), 2), np.float32)
        inputs[rows, place, 0], inputs[rows, place, 1] = terms, weights
        return torch.from_numpy(inputs), truncated

    def _known(self, term: str) -> int:
        return self.numbers.get(term, PADDING)


def is_piece(term: str) -> bool:
    """Returns whether a term is a piece of a word."""
    return len(term) > 1 and term[0] == _PIECE and " " not in term


def learn_vocabulary(sentences: Sequence[str], most: int, longest: int | None = None) -> Vocabulary:
    """Returns the terms that stand in at least two sentences, the most frequent first.

    A word of one sentence alone is read as unknown, so that the network learns what to do with such.

    Args:
        sentences: Training sentences.
        most: Number of words and pairs that are known at most, and twice that of pieces.
        longest: Number of words that are read of a sentence; None for all.

    Example:
        >>> learn_vocabulary(["play jazz now", "play rock now", "stop"], most=2).terms[:2]
        ('now', 'play')
    """
    split = [split_words(sentence)[:longest] for sentence in sentences]
    pieces = sum(map(len, split)) <= _PIECES_UP_TO * len(split)
    numbers: dict[str, int] = {}

    def number(term: str) -> int:
        return numbers.setdefault(term, len(numbers) + 1)

    rows, terms = _flatten(split, pieces, number, number)
    size = len(numbers) + 1
    counts: list[int] = np.bincount(np.unique(rows * size + terms) % size, minlength=size)[1:].tolist()
    frequent = sorted((-count, term) for term, count in zip(numbers, counts, strict=True) if count >= 2)
    whole = [entry for entry in frequent if not is_piece(entry[1])][:most]
    chosen = whole + [entry for entry in frequent if is_piece(entry[1])][: (most + 1) // 2]
    return Vocabulary(tuple(term for _, term in chosen), tuple(-count for count, _ in chosen), len(split), pieces)


def _flatten(
    split: Sequence[Sequence[str]], pieces: bool, of_word: Callable[[str], int], of_term: Callable[[str], int]
) -> tuple[Array, Array]:
    """Returns the row and the number of every term, of those that have a number above 0."""
    parts: dict[str, list[int]] = {}
    flat, ends = list[int](), list[int]()
    for words in split:
        for word in words:
            own = parts.get(word)
            if own is None:
                own = parts[word] = [of_word(word), *map(of_term, _pieces_of(word) if pieces else ())]
            flat += own
        flat += [of_term(f"{first} {second}") for first, second in pairwise(words)]
        ends.append(len(flat))
    terms = np.array(flat, np.int64)
    rows = np.repeat(np.arange(len(split)), np.diff(ends, prepend=0))
    return rows[terms > 0], terms[terms > 0]


def _pieces_of(word: str) -> list[str]:
    marked = f"<{word[:_READ_OF_A_WORD]}>"
    lengths = range(_SHORTEST, _LONGEST + 1)
    return [f"{_PIECE}{marked[start : start + n]}" for n in lengths for start in range(len(marked) - n + 1)]
