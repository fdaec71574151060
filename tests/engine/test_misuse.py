"""Something else in place of a sampler, a batch or a loader: the error names what to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import caveat
from caveat.errors import InvalidArgumentError


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        scores: Tensor = self.body(input_ids)
        return scores if attention_mask is None else scores * attention_mask[:, None]


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter([X])


torch.manual_seed(0)
X, Y = torch.randn(6, 4), torch.arange(6.0)
NETWORK, TOKENS = Tokens().body, Tokens()
SAMPLER = caveat.mc_dropout(NETWORK, output=caveat.Logits())
OF_TOKENS = caveat.mc_dropout(TOKENS, output=caveat.Logits())
MEMBERS = caveat.ensemble([NETWORK], output=caveat.Logits())
LOADER = DataLoader(TensorDataset(X, Y), batch_size=3)

Verb = Callable[..., Any]
VERBS = [
    lambda sampler, x: caveat.predict(sampler, x),
    lambda sampler, x: caveat.predict(sampler, x, 5),
    lambda sampler, x: caveat.predict(sampler, x, "auto"),
    lambda sampler, x: caveat.draws(sampler, x),
    lambda sampler, x: caveat.draws(sampler, x, 5, gradient=True),
]


def refused(call: Callable[[], Any], *words: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        call()
    for word in ("\n  Got: ", "\n  Fix: ", *words):
        assert word in str(error.value)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("sampler", "x", "word"),
    [
        (NETWORK, X, "caveat.mc_dropout("),
        ([NETWORK, TOKENS], X, "caveat.ensemble("),
        (X, SAMPLER, "predict(sampler, x)"),
        (X, NETWORK, "caveat.mc_dropout("),
        (NETWORK, SAMPLER, "predict(sampler, x)"),
        (nn.Linear, X, "the class Linear"),
        (type(MEMBERS), X, "the class Ensemble"),
        (caveat.mc_dropout, X, "a function, mc_dropout"),
        ("last.ckpt", X, "torch.load('last.ckpt', weights_only=True)['state_dict']"),
        (None, X, "NoneType without output, size, strata, bind"),
    ],
)
def test_what_is_no_sampler(verb: Verb, sampler: Any, x: Any, word: str) -> None:
    refused(lambda: verb(sampler, x), word)
    if x is X:
        refused(lambda: caveat.predict_batches(sampler, LOADER), word)
        refused(lambda: caveat.acquire.trajectories(sampler, X, X), word)
        refused(lambda: caveat.acquire.ThompsonPolicy(sampler), word)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("x", "word"),
    [
        (LOADER, "caveat.predict_batches("),
        (iter(LOADER), "caveat.predict_batches("),
        ((part for part in [X]), "caveat.predict_batches("),
        (Stream(), "caveat.predict_batches("),
        (TensorDataset(X), "DataLoader(dataset"),
        ([X, X], "predict_batches("),
        (X.numpy(), "torch.as_tensor"),
        ({"input": X.numpy()}, "torch.as_tensor"),
        ([1.0, 2.0], "torch.as_tensor"),
        ("a sentence", "str 'a sentence'"),
    ],
)
def test_what_is_no_batch(verb: Verb, x: Any, word: str) -> None:
    refused(lambda: verb(SAMPLER, x), word)


@pytest.mark.parametrize(
    ("sampler", "x", "words"),
    [
        (SAMPLER, (X, Y), ("a tuple of 2 items", "inputs=lambda batch: batch[0]")),
        (MEMBERS, (X, Y), ("a tuple of 2 items", "inputs=lambda batch: batch[0]")),
        (caveat.mixture([SAMPLER]), (X, Y), ("inputs=lambda batch: batch[0]",)),
        (OF_TOKENS, {"input_ids": X, "labels": Y}, ("'labels'", "for name in ('input_ids',)}")),
        (SAMPLER, {"x": X, "y": Y}, ("inputs=lambda batch: batch['x']",)),
        (OF_TOKENS, {"attention_mask": Y}, ("missing a required argument: 'input_ids'", "every argument")),
    ],
)
def test_labels_beside_inputs(sampler: Any, x: Any, words: tuple[str, ...]) -> None:
    refused(lambda: caveat.predict(sampler, x), *words)
    if isinstance(x, dict):
        refused(lambda: list(caveat.predict_batches(sampler, [x])), *words)


@pytest.mark.parametrize(
    ("loader", "word"),
    [
        (X, "x.split(256)"),
        (X.numpy(), "x.split(256)"),
        (TensorDataset(X, Y), "DataLoader(dataset"),
        ({"x": X}, "a list of batches"),
        (None, "a list of batches"),
        ("train.pt", "a list of batches"),
    ],
)
def test_what_is_no_loader(loader: Any, word: str) -> None:
    refused(lambda: caveat.predict_batches(SAMPLER, loader), word)


@pytest.mark.parametrize("batch", [(X, Y), [X, Y], (X, Y, Y), [X, Y, Y]])
def test_labels_of_a_loader_stay_out_where_forward_takes_no_more(batch: Any) -> None:
    (pred,) = caveat.predict_batches(SAMPLER, [batch], 5)
    torch.testing.assert_close(pred.mean, caveat.predict(SAMPLER, X, 5).mean)


def test_a_tuple_that_forward_takes_is_all_inputs() -> None:
    (pred,) = caveat.predict_batches(OF_TOKENS, [(X, Y)], 5)
    torch.testing.assert_close(pred.mean, caveat.predict(OF_TOKENS, (X, Y), 5).mean)


def test_items_that_may_be_labels_or_inputs_have_to_be_said() -> None:
    """Of [ids, mask, labels] the mask was left out without a word."""
    refused(lambda: list(caveat.predict_batches(OF_TOKENS, [[X, Y, Y]], 5)), "attention_mask", "inputs=lambda batch")
    (pred,) = caveat.predict_batches(OF_TOKENS, [[X, Y, Y]], 5, inputs=lambda batch: tuple(batch[:2]))
    torch.testing.assert_close(pred.mean, caveat.predict(OF_TOKENS, (X, Y), 5).mean)


@pytest.mark.parametrize("sampler", [SAMPLER, MEMBERS])
@pytest.mark.parametrize("verb", VERBS[:1] + VERBS[3:4])
@pytest.mark.parametrize(
    ("x", "fix"),
    [
        (X.double(), "x.to(torch.float32), or model.to(torch.float64)"),
        (X.half(), "x.to(torch.float32), or model.to(torch.float16)"),
        (X.long(), "x.to(torch.float32)"),
    ],
)
def test_numbers_of_another_type(verb: Verb, sampler: Any, x: Tensor, fix: str) -> None:
    refused(lambda: verb(sampler, x), f"{x.dtype}, and ", fix)


def test_a_shape_that_does_not_fit_is_what_torch_says() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        caveat.predict(SAMPLER, X.repeat(1, 2), 5)


def test_a_failure_of_the_network_itself_stays_as_it_is() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x) + None  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        caveat.predict(caveat.mc_dropout(Broken(), output=caveat.Logits()), X, 5)
