"""Heads of a mean or logits and a log-variance: shapes, what they say before training, and what reads them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import caveat
from caveat.errors import InvalidArgumentError
from caveat.layers import LogitsAndLogVarianceHead, MeanAndLogVarianceHead
from caveat.losses import attenuated_cross_entropy, gaussian_nll

pixel = partial(nn.Conv2d, kernel_size=1)


def test_before_training_the_variance_is_one_number() -> None:
    for head in (MeanAndLogVarianceHead, LogitsAndLogVarianceHead):
        first, log_variance = head(6, 2, initial_variance=0.25)(torch.randn(5, 6))
        assert first.shape == (5, 2)
        torch.testing.assert_close(log_variance.exp(), torch.full((5, 2), 0.25))


def test_shapes_of_rows_sequences_and_pixels() -> None:
    assert [x.shape for x in MeanAndLogVarianceHead(6, 2)(torch.randn(5, 7, 6))] == [(5, 7, 2)] * 2
    logits, log_variance = LogitsAndLogVarianceHead(6, 3, layer=pixel, shared=True)(torch.randn(2, 6, 4, 4))
    assert (logits.shape, log_variance.shape) == ((2, 3, 4, 4), (2, 1, 4, 4))


def test_caveat_reads_what_they_return() -> None:
    body = [nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2)]
    x = torch.randn(5, 4)
    regression = caveat.mc_dropout(nn.Sequential(*body, MeanAndLogVarianceHead(8)), output=caveat.MeanAndLogVariance())
    pred = caveat.predict(regression, x, n=10)
    torch.testing.assert_close(caveat.aleatoric_variance(pred), torch.ones(5, 1))
    classes = caveat.mc_dropout(nn.Sequential(*body, LogitsAndLogVarianceHead(8, 3)), output=caveat.Logits(select=0))
    assert caveat.predict(classes, x, n=10).mean.shape == (5, 3)


def test_every_parameter_is_trained() -> None:
    x = torch.randn(16, 6)
    mean_head, logit_head = MeanAndLogVarianceHead(6, 2), LogitsAndLogVarianceHead(6, 3)
    gaussian_nll(mean_head(x), torch.randn(16, 2)).backward()
    attenuated_cross_entropy(logit_head(x), torch.randint(3, (16,))).backward()
    for head in (mean_head, logit_head):
        assert all((parameter.grad != 0).any() for parameter in head.parameters() if parameter.grad is not None)
        assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: MeanAndLogVarianceHead(0),
        lambda: MeanAndLogVarianceHead(4, 0),
        lambda: MeanAndLogVarianceHead(4, initial_variance=0.0),
        lambda: MeanAndLogVarianceHead(4, initial_variance=float("nan")),
        lambda: MeanAndLogVarianceHead(4, initial_variance=2.0, layer=partial(nn.Linear, bias=False)),
        lambda: LogitsAndLogVarianceHead(4, 1),
    ],
)
def test_bad_input(make: object) -> None:
    with pytest.raises(InvalidArgumentError):
        make()  # type: ignore[operator]
