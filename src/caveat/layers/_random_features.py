"""A Gaussian process as the last layer: random Fourier features and a Laplace posterior over their weights.

The features are fixed, f(x) = sqrt(2 / F) cos(W x / length_scale + b), whose inner products approximate a squared
exponential kernel; the weights are trained as any, and the precision of their posterior is one pass over the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caveat._checks import require_choice, require_integer, require_model, require_number
from caveat._mean_field import mean_field_probabilities
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError, explain

Curvature = Literal["softmax", "logistic"] | float | Callable[[Tensor], Tensor]
"""The second derivative of the negative log-likelihood by the head's outputs (B, K), which is (B, K) or (B, 1)."""

_factors: ContextVar[Mapping[int, Tensor]] = ContextVar("caveat_factors_of_heads_that_draw")
_NONE: Mapping[int, Tensor] = {}


class RandomFeatureGaussianProcess(nn.Module):
    """The head of SNGP: trained as a linear layer over random features, then sure where the data were.

    Train it with the rest of the network under any loss; then build the posterior precision in one pass,
    ``update_precision(network, inputs)``, or during a last epoch in train mode after ``head.reset_precision()``. The
    sampler ``caveat.samplers.gaussian_process_head`` draws functions from the posterior.

    The prior over the weights is normal with variance 1 / ridge, so far from the data the variance of the function
    goes up to about 1 / ridge. With ``weight_decay = ridge * noise_variance / N`` on ``head.weight`` and a mean squared
    error halved (ridge / N with a mean cross-entropy) training seeks that posterior's mode.

    Args:
        in_features: Width of the input.
        out_features: K outputs.
        features: Number of random features F.
        length_scale: Length scale of the kernel, in units of the input; about the distance over which functions agree.
        ridge: the prior precision of each weight.
        curvature: That of the likelihood: "softmax" for classes, "logistic" for separate labels, a number for a
            regression, its noise variance; or a function of the outputs (B, K), to (B, K) or (B, 1).
        bias: learn a constant (it has no posterior).
        generator: where the random features come from; torch's global one, as for every layer, if not given.

    Shapes: (B, in_features) to (B, K).

    Raises:
        InvalidArgumentError: a size, scale, ridge or noise variance that is not positive, or a word for no curvature.

    See "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", Liu et
    al., 2020; "Random Features for Large-Scale Kernel Machines", Rahimi and Recht, 2007.

    Example:
        >>> head = RandomFeatureGaussianProcess(1, 1, features=256, curvature=0.01)
        >>> update_precision(head, torch.linspace(-1, 1, 50)[:, None])
        >>> near, far = head.posterior_variance(torch.tensor([[0.0], [20.0]])).flatten().tolist()
        >>> near < 0.05, far > 0.5
        (True, True)
    """

    frequencies: Tensor
    phases: Tensor
    precision: Tensor
    rows_seen: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        features: int = 1024,
        length_scale: float = 1.0,
        ridge: float = 1.0,
        curvature: Curvature = "softmax",
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_features": in_features, "out_features": out_features, "features": features}
        for name, size in sizes.items():
            require_integer(size, name, 1)
        require_number(length_scale, "length_scale", "(0, inf)")
        require_number(ridge, "ridge", "(0, inf)")
        self.in_features, self.out_features, self.features = in_features, out_features, features
        self.ridge, self.gathering = ridge, False
        self.curvature: Curvature = curvature
        self.register_buffer("frequencies", torch.randn(features, in_features, generator=generator) / length_scale)
        self.register_buffer("phases", torch.rand(features, generator=generator) * (2 * math.pi))
        self.weight = nn.Parameter(torch.zeros(out_features, features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        one_row = _curvature_at(torch.zeros(1, out_features), curvature)
        kinds = one_row.shape[-1]  # 1 where the outputs share a posterior
        identity = torch.eye(features, dtype=accumulator(self.weight.device))
        self.register_buffer("precision", ridge * identity.expand(kinds, -1, -1).clone())
        self.register_buffer("rows_seen", torch.zeros((), dtype=torch.int64))

    def random_features(self, x: Tensor) -> Tensor:
        """The features of (B, in_features): (B, F), with inner products near the kernel's."""
        return math.sqrt(2 / self.features) * torch.cos(F.linear(x, self.frequencies, self.phases))

    def forward(self, x: Tensor) -> Tensor:
        """The posterior mean (B, K); one function of the posterior inside ``weights_drawn``."""
        if self.gathering and self.training:
            self.gather(x.detach())
        f = self.random_features(x)
        mean = F.linear(f, self.weight, self.bias)
        factor = _factors.get(_NONE).get(id(self))
        if factor is None:
            return mean
        # Weights = mean + L^-T z: a function's deviation at x is (L^-1 f(x)) . z, where only z differs between draws.
        spread = _solved(factor, f)
        z = torch.randn(self.out_features, self.features, dtype=spread.dtype, device=spread.device)
        deviation = spread[0] @ z.mT if len(spread) == 1 else torch.einsum("kbf,kf->bk", spread, z)
        return mean + deviation

    def posterior_variance(self, x: Tensor) -> Tensor:
        """The variance of the function at (B, in_features), without noise: (B, K).

        Raises:
            InvalidArgumentError: the precision was never built.
        """
        spread = _solved(self.factor(), self.random_features(x))
        return spread.square().sum(-1).mT.expand(-1, self.out_features)

    def mean_field_probabilities(self, x: Tensor) -> Tensor:
        """The expected softmax of the classes at (B, in_features), approximately and without draws: (B, K).

        softmax(mean / sqrt(1 + pi / 8 * variance)), the mean-field formula.

        Raises:
            InvalidArgumentError: the precision was never built.

        See "Uncertainty Estimation with Infinitesimal Jackknife, Its Distribution and Mean-Field Approximation", Lu, Ie
        and Sha, 2020.
        """
        mean = F.linear(self.random_features(x), self.weight, self.bias)
        return mean_field_probabilities(mean, self.posterior_variance(x))

    def factor(self) -> Tensor:
        """The Cholesky factor L of the precision, (K or 1, F, F) lower triangular.

        Raises:
            InvalidArgumentError: the precision was never built, or has lost its digits since.
        """
        if int(self.rows_seen) == 0:
            raise InvalidArgumentError(
                "The posterior is of the data that the precision was built from.",
                got="a head whose precision has seen no rows: it is the prior",
                cause="the network was trained, and the pass that builds the precision left out",
                fix="caveat.layers.update_precision(network, train_inputs)",
            )
        factor, failed = cast(Any, torch.linalg.cholesky_ex(self.precision.to(accumulator(self.precision.device))))
        if bool(failed.any()) or not bool(factor.isfinite().all()):
            raise InvalidArgumentError(
                "The precision must be a positive definite matrix of finite numbers.",
                got=f"{self.precision.dtype} of {int(self.rows_seen)} rows that is none",
                cause="the network was made half as precise after the precision was built",
                fix="caveat.layers.update_precision(network, train_inputs) once more, in the dtype of now",
            )
        return cast(Tensor, factor)

    @torch.no_grad()
    def gather(self, x: Tensor) -> None:
        """Adds what the rows (B, in_features) say to the precision: sum over rows of curvature * f f^T.

        Raises:
            InvalidArgumentError: inputs of other axes, or one output with the curvature of a softmax.
        """
        if self.curvature == "softmax" and self.out_features == 1:
            raise InvalidArgumentError(_one_class())
        if x.ndim != 2:
            raise InvalidArgumentError(
                "A Gaussian-process head takes one vector a row: (B, in_features).",
                got=f"inputs of shape {tuple(x.shape)}",
                fix="pool or flatten what reaches the head",
            )
        f = self.random_features(x)
        curvature = _curvature_at(F.linear(f, self.weight, self.bias), self.curvature).to(self.precision)
        f = f.to(self.precision)
        for kind in range(len(self.precision)):
            self.precision[kind].addmm_((f * curvature[:, kind, None]).mT, f)
        self.rows_seen += len(x)

    @torch.no_grad()
    def reset_precision(self, *, gathering: bool = True) -> None:
        """Resets to the prior; with ``gathering`` every forward pass in train mode adds its rows from here on."""
        wide = accumulator(self.precision.device)  # sums over rows lose their digits in what the network may be in
        identity = torch.eye(self.features, dtype=wide, device=self.precision.device)
        self.precision = (self.ridge * identity).expand_as(self.precision).clone()
        self.rows_seen.zero_()
        self.gathering = gathering

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_features}, {self.out_features}, features={self.features}, ridge={self.ridge}"

    @staticmethod
    def heads_of(model: nn.Module) -> list[RandomFeatureGaussianProcess]:
        """The heads in a network.

        Raises:
            InvalidArgumentError: not a network, or one without.
        """
        require_model(model)
        heads = [part for part in model.modules() if isinstance(part, RandomFeatureGaussianProcess)]
        if not heads:
            raise InvalidArgumentError(_no_head(model))
        return heads

    @staticmethod
    @contextmanager
    def weights_drawn(factors: Mapping[int, Tensor]) -> Generator[None]:
        """While this is on, a forward pass of a head draws one function from its posterior, with ``torch.randn``.

        Args:
            factors: by ``id(head)``, its ``factor()``.
        """
        token = _factors.set(factors)
        try:
            yield
        finally:
            _factors.reset(token)


def _curvature_at(outputs: Tensor, curvature: Curvature) -> Tensor:
    if callable(curvature):
        return curvature(outputs)
    if isinstance(curvature, str):
        require_choice(curvature, "curvature", ("softmax", "logistic"))
        p = outputs.softmax(-1) if curvature == "softmax" else outputs.sigmoid()
        return p * (1 - p)
    require_number(curvature, "curvature", "(0, inf)")
    return torch.full_like(outputs[:, :1], 1 / curvature)


@torch.no_grad()
def update_precision(model: nn.Module, data: Tensor | Iterable[Any], *, batch_size: int = 512) -> None:
    """Builds the posterior precision of the network's Gaussian-process head in one pass over the training inputs.

    The network runs in eval mode and is left in the modes that it was in. Where the pass fails, its heads keep the
    precision that they had.

    Args:
        model: with one ``RandomFeatureGaussianProcess`` or several.
        data: inputs (N, ...), or batches, of which the first item is taken where they are tuples or lists.
        batch_size: rows at once, where ``data`` is one tensor.

    Raises:
        InvalidArgumentError: no head, no rows, or NaN in what reaches the head.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 8), RandomFeatureGaussianProcess(8, 3, features=64))
        >>> update_precision(network, torch.zeros(10, 2))
        >>> int(network[1].rows_seen)
        10
    """
    heads = RandomFeatureGaussianProcess.heads_of(model)
    modes = [(part, part.training) for part in model.modules()]
    before = [(head, head.precision, int(head.rows_seen), head.gathering) for head in heads]
    hooks = [head.register_forward_pre_hook(_gather) for head in heads]
    batches = cast(Any, data).split(batch_size) if isinstance(data, Tensor) else data
    device = next(model.parameters()).device
    try:
        model.eval()
        for head in heads:
            head.reset_precision(gathering=False)
        for batch in cast(Iterable[Any], batches):
            first = cast(Any, batch[0]) if isinstance(batch, (tuple, list)) else batch
            model(first.to(device))
        for head in heads:
            if int(head.rows_seen) == 0 or not bool(head.precision.isfinite().all()):
                raise InvalidArgumentError(_no_rows(int(head.rows_seen)))
    except BaseException:
        for head, precision, rows_seen, gathering in before:
            head.precision, head.gathering = precision, gathering
            head.rows_seen.fill_(rows_seen)
        raise
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training


def _gather(head: nn.Module, args: tuple[Tensor, ...]) -> None:
    cast(RandomFeatureGaussianProcess, head).gather(args[0])


def _solved(factor: Tensor, f: Tensor) -> Tensor:
    """L^-1 f for each row: (K or 1, B, F)."""
    right = f.to(factor.dtype).mT.expand(len(factor), -1, -1)
    return cast(Tensor, torch.linalg.solve_triangular(factor, right, upper=False)).mT.to(f.dtype)


def _no_head(network: nn.Module) -> str:
    return explain(
        "The network must have a Gaussian-process head.",
        got=f"{type(network).__name__} without a RandomFeatureGaussianProcess",
        cause="the trunk was passed alone, or the head is a Linear",
        fix="make its last layer caveat.layers.RandomFeatureGaussianProcess(width, outputs)",
    )


def _one_class() -> str:
    return explain(
        "The curvature of a softmax is of two classes or more: that of one is zero, and no row would count.",
        got='out_features=1 and curvature="softmax", its default',
        fix='curvature="logistic" for one label, or the noise variance of a regression: curvature=0.1',
    )


def _no_rows(rows: int) -> str:
    return explain(
        "The precision needs rows of finite numbers.",
        got=f"{rows} rows" if rows == 0 else f"NaN or infinity among the features of {rows} rows",
        cause="an empty loader, a head that forward does not call, or NaN in the data",
        fix="pass the training inputs, without rows that hold NaN",
    )
