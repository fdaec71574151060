"""Reading networks with several heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caveat._engine import as_output
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.predictive import HeadOutputs, Logits, Mean, MeanAndVariance


def test_outputs_pass_and_dicts_become_heads() -> None:
    logits = Logits()
    assert as_output(logits) is logits
    heads = as_output({"a": Logits(), "b": Mean()})
    assert isinstance(heads, HeadOutputs)
    assert as_output(heads) is heads


@pytest.mark.parametrize("value", [None, "classification", {}, Logits, {"a": 3}, torch.zeros(2)])
def test_what_is_not_an_output(value: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"(?s)output must be an output.*Got:.*cause:.*Fix: .*Logits\(\)"
    ):
        as_output(value)


def test_a_head_reads_its_own_name_or_selects_from_the_whole() -> None:
    x, y, z = torch.randn(4, 3), torch.randn(4, 1), torch.rand(4, 1)
    output = as_output(
        {
            "kind": Logits(),
            "size": MeanAndVariance(select=lambda out: (out["mean"], out["variance"])),
        }
    )
    read = output.read({"kind": x, "mean": y, "variance": z})
    assert torch.equal(read["kind"], x)
    assert torch.equal(read["size"], torch.stack([y, z], -1))


def test_heads_of_a_tuple_and_of_an_inner_part() -> None:
    x, y = torch.randn(4, 3), torch.randn(4, 1)
    read = as_output({"kind": Logits(select=0), "size": Mean(select=1)}).read((x, y))
    assert torch.equal(read["kind"], x)
    assert torch.equal(read["size"], y)
    inner = HeadOutputs({"kind": Logits()}, select="heads")
    assert torch.equal(inner.read({"heads": {"kind": x}})["kind"], x)


def test_heads_read_inside_vmap() -> None:
    output = as_output({"kind": Logits(), "size": Mean()})
    x, masks = torch.randn(4, 3), torch.rand(6, 3)
    read = torch.vmap(lambda m: output.read({"kind": x * m, "size": (x * m)[:, :1]}))(masks)
    assert {name: tuple(value.shape) for name, value in read.items()} == {
        "kind": (6, 4, 3),
        "size": (6, 4, 1),
    }
    assert output.summarize(read).mean["kind"].shape == (4, 3)


def test_nested_heads() -> None:
    output = as_output({"left": {"kind": Logits()}, "size": Mean()})
    read = output.read({"left": {"kind": torch.zeros(4, 3)}, "size": torch.zeros(4, 1)})
    draws = {"left": {"kind": read["left"]["kind"][None]}, "size": read["size"][None]}
    assert output.summarize(draws).mean["left"]["kind"].shape == (4, 3)


def test_a_missing_head() -> None:
    output = as_output({"kind": Logits(), "size": Mean()})
    with pytest.raises(
        OutputMismatchError, match=r"(?s)part named 'size'.*dict with keys 'kind', 'extent'.*select="
    ):
        output.read({"kind": torch.zeros(4, 3), "extent": torch.zeros(4, 1)})
    with pytest.raises(OutputMismatchError, match=r"(?s)part named 'kind'.*tuple of length 2.*select=0"):
        output.read((torch.zeros(4, 3), torch.zeros(4, 1)))
