"""All checks in one call, from the plainest promise to the finest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

from torch import nn

from caveat._checks import require_choice
from caveat._engine import Sampler
from caveat.testing._batches import check_batch_independence, check_rows
from caveat.testing._compare import count_for, require
from caveat.testing._draws import (
    check_chunk_independence,
    check_draw_count,
    check_draw_depends_on_seed_and_index_alone,
    check_merge,
    check_reproducible,
    check_seeds_differ,
    check_variants_agree,
)
from caveat.testing._fingerprint import fingerprint
from caveat.testing._modes import check_gradients, check_inference_mode
from caveat.testing._state import check_state_untouched, networks_of, require_unmoved

Check = Literal[
    "draw_count", "reproducible", "seeds", "index", "chunks", "batch", "rows", "variants", "merge", "state",
    "inference_mode", "gradients",
]  # fmt: skip


def check_sampler(
    sampler: Sampler,
    x: Any,
    *,
    n: int = 24,
    seed: int = 0,
    modules: Sequence[nn.Module] = (),
    variants: Mapping[str, Sampler] | None = None,
    batch_dim: int | None = 0,
    output_dim: int | None = None,
    gradients: bool = True,
    only: Check | None = None,
) -> None:
    """Holds a sampler to the promises; an ``AssertionError`` names the first that is broken.

    In this order: as many draws as asked for (``"draw_count"``); the same again for the same seed
    (``"reproducible"``), and others for another (``"seeds"``); draw i whatever the number of draws (``"index"``) and
    the pieces they are asked for in (``"chunks"``); a row whatever the rows around it (``"batch"``), and asked for by
    its number (``"rows"``); the same draws of each of the ``variants``; summaries that ``"merge"``; ``"state"`` of
    networks, inputs, random numbers and torch as before, after success, an error and Ctrl-C; the same under
    ``"inference_mode"``; ``"gradients"`` when asked for.

    Args:
        sampler: anything with ``output``, ``size``, ``strata`` and ``bind``.
        x: a batch of a few rows, two at least: a tensor, a tuple of arguments or a dict of keywords.
        n: how many draws to look at; all of them where the sampler has fewer.
        seed: an integer.
        modules: the networks whose state must not move; ``sampler.model`` if the sampler has that.
        variants: by name, samplers built in other ways that must give the same draws.
        batch_dim: the axis of the inputs that is the batch; None where rows are meant to depend on each
            other, as with fresh masks for each row.
        output_dim: the axis of one draw that is the batch; ``batch_dim`` if not given.
        gradients: False for networks that cannot be differentiated.
        only: The one check to run, by the name above; all that apply if not given.

    Raises:
        AssertionError: which promise is broken, and how.
        InvalidArgumentError: ``only`` names no check.

    Example:
        >>> import caveat, torch
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> x = torch.linspace(-1, 1, 12).reshape(4, 3)
        >>> check_sampler(caveat.mc_dropout(model, output=caveat.Mean()), x, n=6)
    """
    complete = isinstance(cast("object", sampler), Sampler)
    require(complete, "A sampler has output, size, strata and bind. But one of them is missing.")
    networks, count = networks_of(sampler, modules), count_for(sampler, n)
    by_row = {"batch_dim": batch_dim, "output_dim": output_dim}
    checks: dict[str, Callable[..., None]] = {
        "draw_count": check_draw_count,
        "reproducible": check_reproducible,
        "seeds": check_seeds_differ,
        "index": check_draw_depends_on_seed_and_index_alone,
        "chunks": check_chunk_independence,
        "batch": partial(check_batch_independence, **by_row),
        "rows": partial(check_rows, **by_row),
        "variants": partial(check_variants_agree, variants=variants or {}),
        "merge": check_merge,
        "state": partial(check_state_untouched, networks=networks),
        "inference_mode": check_inference_mode,
        "gradients": partial(check_gradients, networks=networks),
    }
    require_choice(only, "only", list(checks), optional=True)
    left_out = {"batch", "rows"} if batch_dim is None else set[str]()
    left_out |= set() if gradients else {"gradients"}
    before = fingerprint(networks, x)
    for name in [only] if only is not None else [name for name in checks if name not in left_out]:
        checks[name](sampler, x, count=count, seed=seed)
    require_unmoved(before, fingerprint(networks, x), "all checks" if only is None else f"the check {only!r}")
