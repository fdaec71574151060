"""SNGP: each draw is one function from the Laplace posterior over the weights of a Gaussian-process head.

See "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", Liu et al.,
2020.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, cast

from torch import Tensor, nn

from caveat._engine import Backend, P, P_co, Stream, Values, as_output
from caveat._intercept import LivePredicate
from caveat._table_text import in_a_line
from caveat.layers import RandomFeatureGaussianProcess
from caveat.predictive import Output
from caveat.samplers._mc_dropout import MCDropout


@dataclass(frozen=True, eq=False, repr=False)
class GaussianProcessHead(Generic[P_co]):
    """The sampler that ``gaussian_process_head`` makes; see there."""

    model: nn.Module
    output: Output[P_co]
    _inner: MCDropout[P_co]
    _factors: dict[int, tuple[Any, int, Tensor]] = field(default_factory=dict[int, tuple[Any, int, Tensor]], repr=False)

    __repr__ = in_a_line

    size = None
    """There is no end of functions."""
    strata = None
    """Every draw is independent."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        factors = self._factors_now()
        with ExitStack() as held:
            with RandomFeatureGaussianProcess.weights_drawn(factors):
                inner = held.enter_context(self._inner.bind(x, seed, rows=rows, gradient=gradient))
            yield _Drawing(inner, factors)

    def _factors_now(self) -> dict[int, Tensor]:
        """The Cholesky factors, made once for as long as the precision stays what it is."""
        found = dict[int, Tensor]()
        for head in RandomFeatureGaussianProcess.heads_of(self.model):
            precision = head.precision
            version = 0 if precision.is_inference() else precision._version
            of, of_version, factor = self._factors.get(id(head), (None, 0, precision))
            if of is not precision or of_version != version:
                factor = head.factor()
                self._factors[id(head)] = (precision, version, factor)
            found[id(head)] = factor
        return found


class _Drawing:
    """The stream, in which the heads draw only while it is evaluated: other samplers may run in between."""

    def __init__(self, inner: Stream, factors: Mapping[int, Tensor]) -> None:
        self._inner, self._factors, self.rows = inner, factors, inner.rows

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        pieces = iter(self._inner(draws))
        while True:
            with RandomFeatureGaussianProcess.weights_drawn(self._factors):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece


def no_dropout(path: str, module: nn.Module) -> bool:
    """No site fires."""
    return False


def gaussian_process_head(
    model: nn.Module,
    *,
    output: Output[P] | dict[str, Output],
    live: LivePredicate = no_dropout,
    in_dims: Any = None,
    memory: int | None = None,
    backend: Backend = None,
    chunk: int | None = None,
) -> GaussianProcessHead[P]:
    """A sampler of functions from the posterior of a Gaussian-process head: SNGP.

    Draw i is one set of weights of the head's random features, from (seed, i), for all inputs: a smooth function,
    coherent over rows. The rest of the network runs once, whatever n is.

    Args:
        model: Network with a ``caveat.layers.RandomFeatureGaussianProcess``, its precision built
            (``caveat.layers.update_precision``).
        output: How to read what the network returns: ``Logits()``, ``Mean(noise_variance=...)``, ...
        live: Which dropout sites fire as well; none if not given.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.
        memory: Number of bytes that the draws held at once may take.
        backend: "vectorized" or "loop", as for ``caveat.mc_dropout``.
        chunk: Number of draws to hold at once; chosen by size if not given.

    Returns:
        A sampler, for ``caveat.predict``, ``caveat.predict_batches`` and ``caveat.draws``.

    Raises:
        InvalidArgumentError: the network has no such head, or its precision was never built.

    Example:
        >>> import caveat, torch
        >>> from caveat.layers import RandomFeatureGaussianProcess, update_precision
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> network = RandomFeatureGaussianProcess(1, 1, features=128, curvature=0.1)
        >>> update_precision(network, x)
        >>> sampler = gaussian_process_head(network, output=caveat.Mean(noise_variance=0.1))
        >>> pred = caveat.predict(sampler, torch.tensor([[0.0], [9.0]]), n=200)
        >>> bool(pred.epistemic_variance[1] > 3 * pred.epistemic_variance[0])
        True
    """
    heads = RandomFeatureGaussianProcess.heads_of(model)
    read = as_output(output)
    for head in heads:
        head.factor()
    settings = {"in_dims": in_dims, "memory": memory, "backend": backend, "chunk": chunk}
    inner = MCDropout(model=model, output=read, live=live, masks="shared", strata=None, **cast(Any, settings))
    return GaussianProcessHead(model, read, inner)
