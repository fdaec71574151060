"""Reading what a network returns, and the errors where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError, NotFiniteError, NotProbabilitiesError, OutputMismatchError
from caveat.predictive import (
    BinaryLogit,
    Categorical,
    Gaussian,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Output,
    Probabilities,
)

ALL: list[Output] = [
    Logits(),
    Probabilities(),
    BinaryLogit(),
    Mean(),
    MeanAndVariance(),
    MeanAndLogVariance(),
]


@dataclass
class Returned:
    """As model outputs of other libraries: attributes."""

    logits: Tensor
    hidden: Tensor


def says(error: type[Exception], *parts: str) -> Any:
    """The error, with the rule, what was got, the cause and the fix, and these parts in this order."""
    pattern = ".*".join([*parts[:-1], "Got: ", "Usual cause: ", "Fix: ", parts[-1]])
    return pytest.raises(error, match=f"(?s){pattern}")


@pytest.mark.parametrize("output", ALL, ids=repr)
def test_every_output_satisfies_the_protocol(output: Output) -> None:
    assert isinstance(output, Output)


def test_tensors_pass_as_they_are() -> None:
    x = torch.randn(4, 3)
    assert Logits().read(x).shape == (4, 3)
    assert BinaryLogit().read(x[:, 0]).shape == (4,)
    assert BinaryLogit().read(x[:, :1]).shape == (4, 1)
    assert Mean().read(x[:, 0]).shape == (4,)
    assert torch.equal(Mean().read(x), x)


def test_class_axis_is_moved_last() -> None:
    x = torch.randn(2, 5, 7, 8)
    for output in (Logits(class_dim=1), Probabilities(class_dim=1), Logits(class_dim=-3)):
        assert torch.equal(output.read(x), x.permute(0, 2, 3, 1))


@pytest.mark.parametrize("output", [Logits, Probabilities])
def test_the_class_axis_of_four_axes_has_to_be_said(output: Any) -> None:
    """(B, C, H, W) read on its last axis has the columns of the image for classes."""
    x = torch.full((2, 3, 4, 3), 1 / 3)
    for values in (x, x[None]):
        with says(OutputMismatchError, "four or more axes", r"class_dim=1"):
            output().read(values)
    assert torch.equal(output(class_dim=-1).read(x), x)
    assert output(class_dim=1).read(x).shape == (2, 4, 3, 3)
    assert output().read(x[:, 0]).shape == (2, 4, 3)


@pytest.mark.parametrize("output", [MeanAndVariance, MeanAndLogVariance])
def test_halves_of_four_axes_have_to_be_said(output: Any) -> None:
    """(B, 2D, H, W) halved along its last axis has one half of the image for the noise of the other."""
    x = torch.rand(2, 2, 4, 6)
    with says(OutputMismatchError, "four or more axes", r"out\.chunk\(2, 1\)"):
        output().read(x)
    read = output(select=lambda out: out.chunk(2, 1)).read(x)
    assert torch.equal(read[:, 0], x.permute(0, 2, 3, 1))
    assert output().read((x[:, 0], x[:, 1])).shape == (2, 4, 6, 2)


def test_select_by_key_attribute_index_and_callable() -> None:
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    assert Logits(select="a").read({"a": a, "b": b}) is not b
    assert torch.equal(Logits(select="b").read({"a": a, "b": b}), b)
    assert torch.equal(Logits(select="hidden").read(Returned(a, b)), b)
    assert torch.equal(Logits(select=1).read((a, b)), b)
    assert torch.equal(Logits(select=-1).read([a, b]), b)
    assert torch.equal(Logits(select=lambda out: out["x"][0]).read({"x": (b, a)}), b)


def test_logits_attribute_is_read_by_itself() -> None:
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    assert torch.equal(Logits().read(Returned(a, b)), a)


def test_hugging_face_outputs() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    returned = outputs.SequenceClassifierOutput(loss=None, logits=a, hidden_states=(b,))
    assert torch.equal(Logits().read(returned), a)
    assert torch.equal(Mean(select="logits").read(returned), a)
    assert torch.equal(Mean(select=0).read(returned), a)
    with says(OutputMismatchError, "reads one tensor", "'last_hidden_state'"):
        Logits().read(outputs.BaseModelOutput(last_hidden_state=a))


def test_pairs_are_stacked() -> None:
    mean, spread = torch.randn(4, 3), torch.rand(4, 3)
    for output in (MeanAndVariance(), MeanAndLogVariance()):
        for returned in ((mean, spread), [mean, spread], torch.cat([mean, spread], -1)):
            assert torch.equal(output.read(returned), torch.stack([mean, spread], -1))
        assert output.read((mean[:, 0], spread[:, 0])).shape == (4, 2)
    chosen = MeanAndVariance(select=lambda out: (out["m"], out["v"])).read({"m": mean, "v": spread.double()})
    assert chosen.dtype == torch.float64
    assert MeanAndVariance(select="pair").read({"pair": (mean, spread)}).shape == (4, 3, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_left_as_it_is_and_comes_back_as_float32(dtype: torch.dtype) -> None:
    x = torch.randn(6, 4, 3, dtype=dtype)
    assert Logits().read(x[0]).dtype == dtype
    for output, draws in [
        (Logits(), x),
        (Probabilities(), x.softmax(-1)),
        (BinaryLogit(), x),
        (Mean(), x),
        (MeanAndLogVariance(), x[..., :2]),
    ]:
        pred = output.summarize(draws, keep=True)
        assert pred.mean.dtype == pred.variance.dtype == pred.draws.dtype == torch.float32
        assert pred.mean.isfinite().all()
    assert Mean().summarize(x.double()).mean.dtype == torch.float64


class Net(nn.Module):
    """A network whose pass is a function of a mask, so that draws can be mapped over."""

    def __init__(self, shape: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return self.shape(x * mask)


@pytest.mark.parametrize(
    ("output", "shape", "read_shape"),
    [
        (Logits(), lambda h: {"logits": h}["logits"], (5, 4)),
        (Logits(select="y"), lambda h: {"y": h}, (5, 4)),
        (Logits(class_dim=1), lambda h: h[:, :, None, None].expand(5, 4, 2, 3), (5, 2, 3, 4)),
        (Probabilities(select=0), lambda h: (h.softmax(-1), h), (5, 4)),
        (BinaryLogit(), lambda h: h[:, 0], (5,)),
        (Mean(), lambda h: h, (5, 4)),
        (MeanAndVariance(), lambda h: (h, torch.ones(5, 4)), (5, 4, 2)),
        (MeanAndVariance(), lambda h: (torch.ones(5, 4), h.exp()), (5, 4, 2)),
        (MeanAndLogVariance(), lambda h: h, (5, 2, 2)),
    ],
    ids=lambda v: repr(v) if isinstance(v, Output) else "",
)
def test_read_runs_inside_vmap(output: Output, shape: Callable[[Tensor], Any], read_shape: tuple[int, ...]) -> None:
    net, x, masks = Net(shape), torch.randn(5, 4), torch.rand(6, 4)
    mapped = torch.vmap(lambda mask: output.read(net(x, mask)))(masks)
    looped = torch.stack([output.read(net(x, mask)) for mask in masks])
    assert mapped.shape == (6, *read_shape)
    torch.testing.assert_close(mapped, looped)
    output.summarize(mapped)


def test_pixel_wise() -> None:
    draws = torch.stack([Logits(class_dim=1).read(torch.randn(2, 5, 7, 8)) for _ in range(3)])
    pred = Logits(class_dim=1).summarize(draws, keep=True)
    assert pred.mean.shape == (2, 7, 8, 5)
    assert pred.predicted.shape == (2, 7, 8)
    assert pred.draws.shape == (3, 2, 7, 8, 5)
    torch.testing.assert_close(pred.mean, draws.softmax(-1).mean(0))


# The errors.


def test_rank_one_logits() -> None:
    with says(OutputMismatchError, "at least 2 axes", r"BinaryLogit\(\)"):
        Logits().read(torch.randn(4))


def test_one_class() -> None:
    for output in (Logits(), Probabilities()):
        with says(OutputMismatchError, "at least two classes", r"BinaryLogit\(\)"):
            output.read(torch.randn(4, 1))


def test_class_dim_is_an_integer() -> None:
    for class_dim in (1.0, "1", True):
        with says(InvalidArgumentError, "class_dim must be an integer", r"Logits\(class_dim=1\)"):
            Logits(class_dim=class_dim)  # type: ignore[arg-type]


def test_class_dim_out_of_range_or_the_batch() -> None:
    for class_dim in (0, 2, -2, -3):
        with says(OutputMismatchError, "class_dim must name an axis", r"Logits\(class_dim=1\)"):
            Logits(class_dim=class_dim).read(torch.randn(4, 3))


@pytest.mark.parametrize("output", ALL, ids=repr)
def test_integers_scalars_and_foreign_types(output: Output) -> None:
    with says(OutputMismatchError, "floating-point", "argmax"):
        output.read(torch.zeros(4, 2, dtype=torch.int64))
    with says(OutputMismatchError, "select="):
        output.read("a sentence")


@pytest.mark.parametrize("output", [Logits(), BinaryLogit(), Mean()], ids=repr)
def test_no_batch_axis(output: Output) -> None:
    with says(OutputMismatchError, "at least 1 axis", "one value per row"):
        output.read(torch.tensor(1.0))


def test_dict_or_tuple_without_select() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(OutputMismatchError, match=r"(?s)dict with keys 'y', 'z'.*select='y'"):
        Logits().read({"y": x, "z": x})
    with pytest.raises(OutputMismatchError, match=r"(?s)tuple of length 3.*Logits\(select=0\)"):
        Logits().read((x, x, x))
    with pytest.raises(OutputMismatchError, match=r"(?s)dict with keys.*MeanAndVariance\(select='m'\)"):
        MeanAndVariance().read({"m": x, "v": x})
    with pytest.raises(OutputMismatchError, match=r"(?s)tuple of length 3.*select=0"):
        MeanAndVariance().read((x, x, x))


def test_select_of_what_is_not_there() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(OutputMismatchError, match=r"(?s)named 'q'.*keys 'y'.*select='y'"):
        Logits(select="q").read({"y": x})
    with pytest.raises(OutputMismatchError, match=r"(?s)named 'q'.*a Returned"):
        Logits(select="q").read(Returned(x, x))
    with pytest.raises(OutputMismatchError, match=r"(?s)index 2.*tuple of length 2"):
        Logits(select=2).read((x, x))
    with pytest.raises(OutputMismatchError, match=r"(?s)index 0.*dict with keys 'y'"):
        Logits(select=0).read({"y": x})
    with pytest.raises(OutputMismatchError, match=r"(?s)index 0.*a tensor of shape \(4, 3\).*leave select= out"):
        Logits(select=0).read(x)


def test_bad_settings() -> None:
    with says(InvalidArgumentError, "select must be", "callable"):
        Logits(select=["a", "b"])  # type: ignore[arg-type]
    with says(InvalidArgumentError, "select must be", "callable"):
        Mean(select=True)
    for bad in (-1.0, float("nan"), float("inf")):
        with says(InvalidArgumentError, "noise_variance", "model_precision"):
            Mean(noise_variance=bad)


def test_pairs_that_do_not_fit() -> None:
    with says(OutputMismatchError, r"2D", r"Mean\(noise_variance"):
        MeanAndVariance().read(torch.randn(4, 3))
    with says(OutputMismatchError, r"2D", r"Mean\(noise_variance"):
        MeanAndVariance().read(torch.randn(4))
    with says(OutputMismatchError, r"pair of one shape", "expand the variance"):
        MeanAndLogVariance().read((torch.randn(4, 3), torch.randn(4, 1)))


def test_nan_says_how_many_rows_and_which_first() -> None:
    for output, shape in [
        (Logits(), (6, 4, 3)),
        (Mean(), (6, 4, 3)),
        (BinaryLogit(), (6, 4)),
        (Mean(), (6, 4)),
    ]:
        draws = torch.randn(shape)
        draws[3, 2] = torch.nan
        draws[5, 3] = torch.nan
        with says(NotFiniteError, "finite in every draw", "isfinite"):
            output.summarize(draws)
        with pytest.raises(NotFiniteError, match="in 2 of 4 rows, first in row 2"):
            output.summarize(draws)
    p = torch.full((6, 4, 2), 0.5)
    p[0, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="1 of 4 rows, first in row 1"):
        Probabilities().summarize(p)
    pairs = torch.zeros(6, 4, 1, 2)
    pairs[0, 3, 0, 1] = torch.nan
    for output in (MeanAndVariance(), MeanAndLogVariance()):
        with pytest.raises(NotFiniteError, match=r"Noise variances.*\n.*1 of 4 rows, first in row 3"):
            output.summarize(pairs)
    with pytest.raises(NotFiniteError, match="Noise variances"):
        MeanAndLogVariance().summarize(torch.full((6, 4, 1, 2), 1000.0))


def test_infinite_scores_only_where_they_mean_something() -> None:
    ruled_out = torch.tensor([[[0.0, 0.0, -torch.inf]]])
    pred = Logits().summarize(ruled_out)
    assert pred.mean.tolist() == [[0.5, 0.5, 0.0]]
    with pytest.raises(NotFiniteError):
        Logits().summarize(-ruled_out)
    with pytest.raises(NotFiniteError):
        Mean().summarize(torch.tensor([[torch.inf]]))
    assert BinaryLogit().summarize(torch.tensor([[torch.inf, -torch.inf]])).mean.tolist() == [1, 0]


def test_logits_declared_as_probabilities() -> None:
    with says(NotProbabilitiesError, "sum to 1", r"Logits\(\)"):
        Probabilities().summarize(torch.randn(6, 4, 3))
    with says(NotProbabilitiesError, "sum to 1", r"Logits\(\)"):
        Probabilities().summarize(torch.full((1, 1, 2), 0.51))
    with says(NotProbabilitiesError, "at least 0", r"Logits\(\)"):
        Probabilities().summarize(torch.tensor([[[-0.1, 1.1]]]))


def test_probabilities_are_scaled_to_one() -> None:
    pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5005]]]))
    assert pred.moments.mean.sum().item() == pytest.approx(1, abs=1e-15)
    assert pred.mean_entropy.item() >= 0


def test_probabilities_agree_with_logits() -> None:
    z = torch.randn(20, 5, 4, dtype=torch.float64)
    a, b = Logits().summarize(z), Probabilities().summarize(z.softmax(-1))
    for name in ("mean", "variance", "votes", "mean_entropy", "mean_log_probabilities"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name))


def test_negative_variance() -> None:
    draws = torch.ones(6, 4, 1, 2)
    draws[0, 2, 0, 1] = -0.5
    with says(OutputMismatchError, "must not be negative", r"MeanAndLogVariance\(\)"):
        MeanAndVariance().summarize(draws)


@pytest.mark.parametrize("output", ALL, ids=repr)
def test_no_draws(output: Output) -> None:
    with says(InvalidArgumentError, "At least one draw", "stack"):
        output.summarize(torch.zeros(0, 2, 4, 2))


def test_summaries_have_gradients() -> None:
    z = torch.randn(6, 4, 3, requires_grad=True)
    pred = Logits().summarize(z)
    assert isinstance(pred, Categorical)
    (pred.mean[:, 0].sum() + pred.variance.sum() + pred.mean_entropy.sum()).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    y = torch.randn(6, 4, 1, requires_grad=True)
    regression = Mean(noise_variance=0.1).summarize(y)
    assert isinstance(regression, Gaussian)
    regression.log_prob(0.0).sum().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()


def test_empty_batch_summarizes_to_an_empty_predictive() -> None:
    for output, shape in [(Logits(), (3, 0, 2)), (Probabilities(), (3, 0, 2)), (Mean(), (3, 0, 1))]:
        assert len(output.summarize(torch.zeros(shape)).mean) == 0
