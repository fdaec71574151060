"""The kit that any sampler has to pass. It needs nothing but torch and NumPy, and no test framework.

A sampler of your own is an ``output``, a ``size``, ``strata`` and one method ``bind``, as
``caveat._engine.Sampler`` says.
To hold it to the promises, write one test::

    from caveat.testing import check_sampler

    def test_my_sampler():
        model = MyNetwork()
        check_sampler(my_sampler(model), torch.randn(5, 3), modules=[model])

``check_sampler`` runs every check that applies and raises an ``AssertionError`` that says which promise is
broken and how. Each check can be called alone as well, with the same first two arguments.
"""

from caveat.testing._batches import check_batch_independence, check_rows
from caveat.testing._draws import (
    check_chunk_independence,
    check_draw_count,
    check_draw_depends_on_seed_and_index_alone,
    check_merge,
    check_reproducible,
    check_seeds_differ,
    check_variants_agree,
)
from caveat.testing._fingerprint import differences, fingerprint
from caveat.testing._kit import check_sampler
from caveat.testing._modes import check_gradients, check_inference_mode
from caveat.testing._state import check_state_untouched

__all__ = [
    "check_batch_independence",
    "check_chunk_independence",
    "check_draw_count",
    "check_draw_depends_on_seed_and_index_alone",
    "check_gradients",
    "check_inference_mode",
    "check_merge",
    "check_reproducible",
    "check_rows",
    "check_sampler",
    "check_seeds_differ",
    "check_state_untouched",
    "check_variants_agree",
    "differences",
    "fingerprint",
]
