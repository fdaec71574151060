"""Masks as booleans, whatever a site makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._intercept._masks import Make, MaskSource
from caveat._intercept._sites import SiteKey

SITE = SiteKey("drop", 0)
KEPT = Make("kept", lambda keep: keep)


def keep(
    rate: float,
    draws: range = range(256),
    elements: int = 512,
    *,
    seed: int = 0,
    site: SiteKey = SITE,
    strata: int | None = None,
) -> Tensor:
    """Which elements are kept: (S, elements)."""
    return kept_by(MaskSource(seed, strata), rate, draws, elements, site)


def kept_by(source: MaskSource, rate: float, draws: range, elements: int, site: SiteKey = SITE) -> Tensor:
    """The same, of a source that may have been asked before."""
    return source.masks(site, elements, rate, draws, KEPT)


def kept_rows(rate: float, draws: range, rows: Tensor, elements: int) -> Tensor:
    """Which elements of each row are kept: (S, B, elements)."""
    return MaskSource(0).masks_by_row(SITE, elements, rate, draws, rows.to(torch.int64), KEPT)
