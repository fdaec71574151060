"""The audit says of every site what it is, whether it fires, and what would pass it by."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError


class Mixed(nn.Module):
    """One of each: a live site, one that is never called, one hidden in code, a recurrence, attention, no rate."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial, self.off, self.unused = nn.Dropout1d(0.2), nn.Dropout(0.0), nn.AlphaDropout(0.3)
        self.rnn = nn.GRU(4, 4, num_layers=2, dropout=0.4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rnn(self.off(self.spatial(x)))[0]
        h = self.attention(h, h, h, need_weights=False)[0]
        return F.dropout(h, 0.25 if self.training else 0.0).sum(1)


def test_each_site_is_listed_with_what_it_is() -> None:
    found = caveat.audit(Mixed(), torch.randn(3, 5, 4))
    lines = {(site.path, site.kind): site for site in found}
    assert set(lines) == {
        ("spatial", "dropout1d"),
        ("off", "dropout"),
        ("rnn", "gru"),
        ("attention", "attention"),
        ("", "dropout"),
        ("unused", "alpha_dropout"),
    }
    assert {path for (path, _), site in lines.items() if site.live and site.called} == {
        "spatial", "rnn", "attention", "",
    }  # fmt: skip
    assert [round(lines[key].rate, 2) for key in (("rnn", "gru"), ("attention", "attention"))] == [0.4, 0.1]
    assert lines["off", "dropout"].passed_by == "rate 0"
    assert not lines["unused", "alpha_dropout"].called
    assert "never called" in lines["unused", "alpha_dropout"].passed_by
    assert "hidden behind self.training at test_audit.py:" in lines["", "dropout"].passed_by
    assert len(found) == 6
    assert len(found.live) == 4


def test_the_text_is_a_table_with_its_count() -> None:
    text = str(caveat.audit(Mixed(), torch.randn(3, 5, 4)))
    head, rule, *body = text.splitlines()
    assert head.split("  ")[0] == "site"
    assert set(rule) == {"-", " "}
    assert "4 of 6 sites are live." in body
    starts = {line.index("yes") for line in body if line.startswith(("spatial", "rnn"))}
    assert len(starts) == 1  # columns stand under each other
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_is_left_out_says_so() -> None:
    found = caveat.audit(Mixed(), torch.randn(3, 5, 4), live=caveat.paths("rnn"))
    assert [site.path for site in found.live] == ["rnn"]
    assert {site.passed_by for site in found if site.path == "spatial"} == {"live= leaves it out"}


def test_a_layout_that_cannot_be_known_is_noted() -> None:
    class Summed(nn.Module):
        """Rows depend on each other: no axis of the input is a batch."""

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x - x.mean((0, 1)))

    notes = caveat.audit(Summed(), torch.randn(3, 4)).notes
    assert any("no axis of the inputs behaves as a batch" in note for note in notes)


def test_buffers_that_a_pass_writes_in_spite_of_the_interception_are_noted() -> None:
    class Spectral(nn.Module):
        """Writes on a buffer inside a function that torch does not show."""

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                self.seen.add_(1)
            return self.drop(x)

    model, x = Spectral(), torch.ones(3, 4)
    assert any("1 buffer(s) are written" in note for note in caveat.audit(model, x).notes)
    caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), x, 5)
    assert float(model.seen) == 0


def test_an_audit_moves_nothing() -> None:
    model, x = Mixed().train(), torch.randn(3, 5, 4)
    state, flags = torch.get_rng_state(), [module.training for module in model.modules()]
    caveat.audit(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    assert "training" not in vars(nn.Module)


def test_another_word_for_masks_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="masks must be one of 'shared', 'per_row'"):
        caveat.audit(nn.Dropout(0.5), torch.zeros(3, 2), masks="perrow")


def thin(module: nn.Module, h: torch.Tensor) -> torch.Tensor:
    return h * torch.bernoulli(torch.full_like(h, 0.5)) if module.training else h


class ThinnedByAFunction(nn.Module):
    """A function reads the flag; the noise beside it is drawn in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = Noisy()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return thin(self, self.noise(x))


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_a_mask_behind_a_flag_that_a_function_reads_is_hidden() -> None:
    noise, mask = caveat.audit(ThinnedByAFunction().eval(), torch.randn(3, 4))
    assert noise.passed_by.startswith("nothing: it is drawn in eval mode too")
    assert "hidden behind self.training at test_audit.py" in mask.passed_by
