"""The kit that any sampler has to pass. It needs nothing but torch and NumPy, and no test framework.

A sampler of your own is an ``output``, a ``size``, ``strata`` and one method ``bind``, as
``caveat.samplers.Sampler`` says.
To hold it to the promises, write one test::

    from caveat.testing import check_sampler

    def test_my_sampler():
        model = MyNetwork()
        check_sampler(my_sampler(model), torch.randn(5, 3), modules=[model])

``check_sampler`` runs every check that applies, or one of them by its name (``only=``), and raises an
``AssertionError`` that says which promise is broken and how.
"""

from caveat.testing._fingerprint import fingerprint
from caveat.testing._kit import check_sampler

__all__ = ["check_sampler", "fingerprint"]
