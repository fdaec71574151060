"""The tokenizer and the vocabulary."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn")
from hypothesis import given
from hypothesis import strategies as st

from caveat.text._words import OUT_OF_VOCABULARY, PADDING, Vocabulary, learn_vocabulary, split_words

SENTENCES = st.lists(st.text(min_size=1).filter(lambda text: text.strip() != ""), min_size=1, max_size=8)


def test_words_signs_and_numbers() -> None:
    assert split_words("WIN £1000 now!!") == ["win", "£", "0000", "now", "!", "!"]
    assert split_words("call 09061701461") == ["call", "00000"]  # long numbers are one word
    assert split_words("naïve café") == ["naïve", "café"]
    assert split_words("東京へ行く") == list("東京へ行く")  # no spaces part them
    assert split_words("ｆｕｌｌ ｗｉｄｔｈ") == ["full", "width"]  # NFKC


def test_words_of_one_sentence_are_unknown() -> None:
    found = learn_vocabulary(["play play jazz", "play blues", "stop", "blues"], most=10)
    assert found.words == ("blues", "play")  # two sentences each, in the order of the alphabet; "play" thrice is two
    assert learn_vocabulary(["a b", "a b", "a"], most=1).words == ("a",)
    assert found.number("blues") == OUT_OF_VOCABULARY + 1
    assert 1 <= found.number("jazz") <= OUT_OF_VOCABULARY


def test_the_order_of_the_sentences_does_not_matter() -> None:
    texts = ["play jazz", "jazz blues", "blues play", "stop play"]
    assert learn_vocabulary(texts, 10) == learn_vocabulary(texts[::-1], 10)


def test_long_sentences_are_cut_and_counted() -> None:
    ids, cut = Vocabulary(("a",)).read(["a a a a", "a"], most=3)
    assert (ids.shape, cut) == ((2, 3), 1)
    assert Vocabulary(("a",)).read(["a a a"], most=3)[1] == 0


@given(SENTENCES)
def test_numbers_stand_before_padding_and_are_one_to_one(texts: list[str]) -> None:
    vocabulary = learn_vocabulary(texts, 50)
    ids, _ = vocabulary.read(texts, most=20)
    there = ids != PADDING
    assert bool(there[:, 0].all())
    assert torch.equal(there, torch.arange(ids.shape[1]) < there.sum(1, keepdim=True))
    assert int(ids.max()) <= OUT_OF_VOCABULARY + len(vocabulary)
    back = {number: word for word, number in vocabulary.numbers.items()}
    for text, row in zip(texts, ids.tolist(), strict=True):
        for word, number in zip(split_words(text), row, strict=False):
            assert number <= OUT_OF_VOCABULARY or back[number] == word


@given(SENTENCES)
def test_a_sentence_reads_alike_in_any_company(texts: list[str]) -> None:
    vocabulary = learn_vocabulary(texts, 50)
    together, _ = vocabulary.read(texts, most=20)
    for row, text in enumerate(texts):
        alone, _ = vocabulary.read([text], most=20)
        assert torch.equal(together[row, : alone.shape[1]], alone[0])
        assert not bool(together[row, alone.shape[1] :].any())
