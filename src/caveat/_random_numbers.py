"""The random numbers of a layer: torch's own while it trains, caveat's while it is drawn from, none at rest.

Both functions are seen by a ``TorchFunctionMode``, as torch's own dropout is. That is how a layer here becomes a site:
``caveat._intercept._dropout_sites`` answers the calls during a draw.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from caveat._dropping import ShapeOf, drop


def uniform_numbers(x: Tensor, shape_of: ShapeOf, kind: str, rate: float | Tensor, training: bool) -> Tensor | None:
    """Uniform numbers in (0, 1) that broadcast to ``shape_of(x.shape)``, or None where the layer is at rest.

    They are float64 for a float64 ``x`` and else float32: half precision has too few numbers in (0, 1).

    Args:
        x: the tensor that noise is about to meet.
        shape_of: the shape of the numbers.
        kind: what an audit calls the site.
        rate: the site's rate, for the audit; one number.
        training: the layer's flag.
    """
    if has_torch_function((x,)):
        return handle_torch_function(uniform_numbers, (x,), x, shape_of, kind, rate, training)
    if not training:
        return None
    dtype = wide(x.dtype)
    # torch gives numbers in [0, 1); a logarithm or a quantile of 0 would be infinite.
    return torch.rand(shape_of(tuple(x.shape)), dtype=dtype, device=x.device).clamp(min=torch.finfo(dtype).eps / 4)


def dropped(x: Tensor, shape_of: ShapeOf, kind: str, rate: float, training: bool, of_weights: bool = False) -> Tensor:
    """``x`` with each of its mask's entries 0 at ``rate`` and 1 / (1 - rate) else; ``x`` itself at rest.

    Args:
        x: the tensor to drop.
        shape_of: the shape of the mask, which broadcasts over ``x``.
        kind: what an audit calls the site.
        rate: the fraction that is dropped, in [0, 1).
        training: the layer's flag.
        of_weights: ``x`` is a parameter: there is no batch in it.
    """
    if has_torch_function((x,)):
        return handle_torch_function(dropped, (x,), x, shape_of, kind, rate, training, of_weights)
    if not training or rate == 0:
        return x
    dtype = wide(x.dtype)
    keep = torch.rand(shape_of(tuple(x.shape)), dtype=dtype, device=x.device) >= rate
    return drop(x, keep.to(dtype) / (1 - rate))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that random numbers for a tensor of ``dtype`` are made in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def word_multipliers(ids: Tensor, vocabulary: int, p: float, dtype: torch.dtype, training: bool) -> Tensor | None:
    """What each word's vector is multiplied by: 0 or 1 / (1 - p), one number for each word type of a sequence.

    Args:
        ids: (B, ..., T), or (T,) for one sequence.
        vocabulary: how many words there are.
        p: the rate.
        dtype: of the multipliers.
        training: whether to drop.

    Returns:
        As ``ids``, or None where nothing is dropped.
    """
    if has_torch_function((ids,)):
        return cast(Any, handle_torch_function)(word_multipliers, (ids,), ids, vocabulary, p, dtype, training)
    if not training or p == 0:
        return None
    flat = ids.reshape(1, -1) if ids.dim() < 2 else ids.flatten(1)
    order = flat.argsort(dim=1)
    in_order = flat.gather(1, order)
    starts = F.pad(in_order[:, 1:] != in_order[:, :-1], (1, 0), value=True)
    place = torch.arange(flat.shape[1], device=ids.device)
    # In the order of the words, each place takes the number drawn at the first place of its word.
    first = torch.where(starts, place, 0).cummax(1).values
    drawn = F.dropout(torch.ones(flat.shape, dtype=dtype, device=ids.device), p)
    return torch.zeros_like(drawn).scatter(1, order, drawn.gather(1, first)).reshape(ids.shape)
