"""The tokenizer, the vocabulary, and terms with their weights beside scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from caveat.text._words import OUT_OF_VOCABULARY, PADDING, Vocabulary, learn_vocabulary, split_words

SENTENCES = st.lists(st.text(min_size=1).filter(lambda text: text.strip() != ""), min_size=1, max_size=8)
PLAIN = ["play the jazz", "play the blues the jazz", "stop the radio", "stop the jazz", "play radio"]


def test_words_signs_and_numbers() -> None:
    assert split_words("WIN £1000 now!!") == ["win", "£", "0000", "now", "!", "!"]
    assert split_words("call 09061701461") == ["call", "00000"]  # long numbers are one word
    assert split_words("naïve café") == ["naïve", "café"]
    assert split_words("東京へ行く") == list("東京へ行く")  # no spaces part them
    assert split_words("ｆｕｌｌ ｗｉｄｔｈ") == ["full", "width"]  # NFKC


def test_words_of_one_sentence_are_unknown() -> None:
    found = learn_vocabulary(["play play jazz", "play blues", "stop", "blues"], most=10)
    words = [term for term in found.terms if term[0] != "#"]
    assert words == ["blues", "play"]  # two sentences each, in the order of the alphabet; "play" thrice is two
    assert found.counts[:2] == (2, 2)
    assert found.number("blues") == OUT_OF_VOCABULARY + 1
    assert 1 <= found.number("jazz") <= OUT_OF_VOCABULARY


def test_at_most_so_many_words_and_pairs_and_half_the_pieces() -> None:
    found = learn_vocabulary(PLAIN, most=3)
    assert found.terms[:3] == ("the", "jazz", "play")
    assert len(found.terms) == 5
    assert all(term.startswith("#") for term in found.terms[3:])


def test_pieces_of_long_texts_are_not_read() -> None:
    assert learn_vocabulary(["play jazz now"] * 3, 100).pieces
    assert not learn_vocabulary(["play jazz now " * 30] * 3, 100).pieces
    assert learn_vocabulary(["play jazz now " * 30] * 3, 100, longest=10).pieces


def test_the_order_of_the_sentences_does_not_matter() -> None:
    texts = ["play jazz", "jazz blues", "blues play", "stop play"]
    assert learn_vocabulary(texts, 10) == learn_vocabulary(texts[::-1], 10)


def test_long_sentences_are_cut_and_counted() -> None:
    vocabulary = Vocabulary(("a", "b"), (2, 2), 2, pieces=False)
    inputs, cut = vocabulary.read(["a a a b", "a"], most=3)
    assert (inputs.shape, cut) == ((2, 1, 2), 1)
    assert vocabulary.read(["a a a"], most=3)[1] == 0
    assert vocabulary.read(["a " * 300 + "b"], most=None)[0].shape == (1, 2, 2)


def test_weights_are_those_of_scikit_learn() -> None:
    """Of words and pairs, and of pieces, where every word is known: the log of a count, idf, and a norm of 1 each."""
    vocabulary = learn_vocabulary([*PLAIN, *PLAIN], 1000)
    whole = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit([*PLAIN, *PLAIN])
    pieces = TfidfVectorizer(
        analyzer=lambda text: [piece for word in text.split() for piece in _pieces(word)], sublinear_tf=True, min_df=2
    ).fit([*PLAIN, *PLAIN])
    inputs, _ = vocabulary.read(PLAIN, most=None)
    for library, prefix in ((whole, ""), (pieces, "#")):
        wanted = library.transform(PLAIN).toarray()
        own = np.zeros_like(wanted)
        for column, term in enumerate(library.get_feature_names_out()):
            number = vocabulary.numbers[f"{prefix}{term}"]
            own[:, column] = torch.where(inputs[..., 0] == number, inputs[..., 1], 0).sum(1)
        np.testing.assert_allclose(own, wanted, rtol=1e-5)
    assert len(vocabulary) == len(whole.vocabulary_) + len(pieces.vocabulary_)


def _pieces(word: str) -> list[str]:
    marked = f"<{word}>"
    return [marked[a:b] for a in range(len(marked)) for b in range(a + 2, min(a + 5, len(marked)) + 1)]


def test_unknown_words_take_weight_from_known_ones() -> None:
    vocabulary = Vocabulary(("play", "jazz"), (9, 3), 10, pieces=False)
    both, _ = vocabulary.read(["play jazz", "play qwrk"], most=None)
    rare, unknown = both[0, 1, 1], both[1, 0, 1]
    assert 1 <= int(both[1, 0, 0]) <= OUT_OF_VOCABULARY
    assert unknown > rare  # a word of one sentence is rarer than one of three
    torch.testing.assert_close(both[..., 1].square().sum(1), torch.ones(2))


@given(SENTENCES)
def test_numbers_rise_before_padding_and_are_known(texts: list[str]) -> None:
    vocabulary = learn_vocabulary(texts, 50)
    inputs, _ = vocabulary.read(texts, most=20)
    numbers, weights = inputs.unbind(2)
    there = numbers != PADDING
    assert bool(there[:, 0].all())
    assert torch.equal(there, torch.arange(numbers.shape[1]) < there.sum(1, keepdim=True))
    assert torch.equal(there, weights > 0)
    assert bool((numbers.diff(dim=1)[there[:, 1:]] > 0).all())
    assert int(numbers.max()) <= OUT_OF_VOCABULARY + len(vocabulary)
    for text, row in zip(texts, numbers.long().tolist(), strict=True):
        assert {vocabulary.number(word) for word in split_words(text)[:20]} <= set(row)


@given(SENTENCES)
def test_a_sentence_reads_alike_in_any_company(texts: list[str]) -> None:
    vocabulary = learn_vocabulary(texts, 50)
    together, _ = vocabulary.read(texts, most=20)
    for row, text in enumerate(texts):
        alone, _ = vocabulary.read([text], most=20)
        assert torch.equal(together[row, : alone.shape[1]], alone[0])
        assert not bool(together[row, alone.shape[1] :].any())
