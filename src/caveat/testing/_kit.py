"""All checks in one call, from the plainest promise to the finest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from caveat._engine import Sampler
from caveat.testing._batches import check_batch_independence, check_rows
from caveat.testing._compare import require
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
) -> None:
    """Hold a sampler to the promises; the first that is broken is said in an ``AssertionError``.

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

    Raises:
        AssertionError: which promise is broken, and how.

    Example:
        >>> import caveat, torch
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> x = torch.linspace(-1, 1, 12).reshape(4, 3)
        >>> check_sampler(caveat.mc_dropout(model, output=caveat.Mean()), x, n=6)
    """
    complete = isinstance(cast("object", sampler), Sampler)
    require(complete, "A sampler has output, size, strata and bind. But one of them is missing.")
    networks = networks_of(sampler, modules)
    before = fingerprint(networks, x)
    check_draw_count(sampler, x, n=n, seed=seed)
    check_reproducible(sampler, x, n=n, seed=seed)
    check_seeds_differ(sampler, x, n=n, seed=seed)
    check_draw_depends_on_seed_and_index_alone(sampler, x, n=n, seed=seed)
    check_chunk_independence(sampler, x, n=n, seed=seed)
    if batch_dim is not None:
        check_batch_independence(sampler, x, n=n, seed=seed, batch_dim=batch_dim, output_dim=output_dim)
        check_rows(sampler, x, n=n, seed=seed, batch_dim=batch_dim, output_dim=output_dim)
    check_variants_agree(sampler, x, n=n, seed=seed, variants=variants)
    check_merge(sampler, x, n=n, seed=seed)
    check_state_untouched(sampler, x, n=n, seed=seed, modules=networks)
    check_inference_mode(sampler, x, n=n, seed=seed)
    if gradients:
        check_gradients(sampler, x, n=n, seed=seed, modules=networks)
    require_unmoved(before, fingerprint(networks, x), "all checks")
