"""skorch: the predictives of a fitted net, whose own ``predict_proba`` is one pass in eval mode."""

from __future__ import annotations

import functools
from typing import Any, Literal, Protocol, cast, overload

from torch import Tensor, nn

import caveat._extras as extras
from caveat._engine import P, Sampler, predict
from caveat.errors import InvalidArgumentError
from caveat.interop._around import Around
from caveat.predictive import Categorical, Gaussian, Mean, Output, Predictive, Probabilities, concatenate
from caveat.samplers import mc_dropout

_OF_MEANS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


class _Classifier(Protocol):
    """What tells skorch's classifiers from its regressors, for type checkers."""

    @property
    def classes_(self) -> Any: ...


@overload
def skorch_sampler(net: Any, *, output: Output[P] | dict[str, Output], **settings: Any) -> Sampler[P]: ...
@overload  # a net whose type is not known may be either
def skorch_sampler(  # pyright: ignore[reportOverlappingOverload]
    net: _Classifier, *, output: None = None, **settings: Any
) -> Sampler[Categorical]: ...
@overload
def skorch_sampler(net: Any, *, output: None = None, **settings: Any) -> Sampler[Gaussian]: ...
def skorch_sampler(net: Any, *, output: Output | dict[str, Output] | None = None, **settings: Any) -> Sampler:
    """A sampler of thinned networks of a fitted skorch net, for ``caveat.predict``, ``audit`` and the rest.

    What a network returns is read as the net reads it: of a classifier the probabilities that ``predict_proba`` gives,
    with the net's own nonlinearity (``predict_nonlinearity``, softmax for cross-entropy, ...); of a regressor the mean,
    where the criterion is a squared, absolute or Huber error.

    Args:
        net: A fitted ``NeuralNetClassifier``, ``NeuralNetBinaryClassifier`` or ``NeuralNetRegressor``, or another
            ``NeuralNet`` with ``output``.
        output: How to read what the module itself returns, in place of the net's way: ``MeanAndLogVariance()`` for a
            net with a likelihood of its own, say.
        settings: Other arguments of ``caveat.mc_dropout``.

    Raises:
        MissingExtraError: skorch is not installed, or older than 1.0.
        InvalidArgumentError: not a net, one that is not fitted, or one of which it is not known what it returns.

    Example:
        ``caveat.predict(skorch_sampler(net), torch.as_tensor(X), n=100)``
    """
    skorch = extras.require("skorch", "skorch", at_least="1.0")
    module = _fitted_module(skorch, net)
    if output is not None:
        return mc_dropout(module, output=cast(Any, output), **settings)
    if isinstance(net, (skorch.NeuralNetClassifier, skorch.NeuralNetBinaryClassifier)):
        nonlinearity, read = net._get_predict_nonlinearity(), Probabilities()
    elif isinstance(net, skorch.NeuralNetRegressor) and isinstance(net.criterion_, _OF_MEANS):
        nonlinearity, read = net._get_predict_nonlinearity(), Mean()
    else:
        criterion = type(getattr(net, "criterion_", None)).__name__
        raise InvalidArgumentError(
            "It must be known what the module of a net returns.",
            got=f"{type(net).__name__} with the criterion {criterion}",
            cause="a likelihood of your own, or a net that is neither a classifier nor a regressor",
            fix="pass output=caveat.MeanAndLogVariance(), caveat.Logits(), ...",
        )

    @functools.wraps(module.forward)
    def predicted(*args: Any, **named: Any) -> Tensor:
        returned = module(*args, **named)
        return nonlinearity(returned[0] if isinstance(returned, tuple) else returned)

    return mc_dropout(Around(module, predicted), output=read, **settings)


@overload
def skorch_predict(
    net: Any,
    X: Any,
    n: int | Literal["auto"] | None = None,
    *,
    seed: int = 0,
    output: Output[P] | dict[str, Output],
    **settings: Any,
) -> P: ...
@overload
def skorch_predict(  # pyright: ignore[reportOverlappingOverload]
    net: _Classifier,
    X: Any,
    n: int | Literal["auto"] | None = None,
    *,
    seed: int = 0,
    output: None = None,
    **settings: Any,
) -> Categorical: ...
@overload
def skorch_predict(
    net: Any, X: Any, n: int | Literal["auto"] | None = None, *, seed: int = 0, output: None = None, **settings: Any
) -> Gaussian: ...
def skorch_predict(
    net: Any,
    X: Any,
    n: int | Literal["auto"] | None = None,
    *,
    seed: int = 0,
    output: Any = None,
    **settings: Any,
) -> Predictive:
    """Returns the predictive of all rows by MC dropout of a fitted skorch net.

    Rows are loaded as the net's ``predict`` loads them (``dataset``, ``iterator_valid``, ``batch_size``, ``device``),
    and drawn batch by batch with the same functions, so that memory does not grow with them but by the summary.

    Args:
        net: A fitted net, as for ``skorch_sampler``.
        X: What the net's ``predict`` takes: an array, a tensor, a dict or list of them, a data frame, a dataset.
        n: Number of draws (100 if not given), or "auto".
        seed: Random seed for the draws.
        output: As for ``skorch_sampler``.
        settings: Other arguments of ``caveat.mc_dropout``.

    Returns:
        ``Categorical`` (B, C) of a classifier, its class k being ``net.classes_[k]``; ``Gaussian`` (B, D) of a
        regressor.

    Raises:
        MissingExtraError, InvalidArgumentError: As ``skorch_sampler``.
        NothingRandomError: The net has no dropout that reaches what is read.

    Example:
        ``caveat.mutual_information(skorch_predict(net, X_test, n=100))`` is (B,), in nats.
    """
    sampler: Sampler = skorch_sampler(net, output=output, **settings)
    load = extras.require("skorch.dataset", "skorch")
    parts: list[Predictive] = []
    for batch in net.get_iterator(net.get_dataset(X), training=False):
        inputs, _ = load.unpack_data(batch)
        whole = cast(Any, inputs) if isinstance(inputs, dict) else (inputs,)  # a list is one argument, as in net.infer
        parts.append(predict(sampler, whole, n, seed=seed))
    return concatenate(parts)


def _fitted_module(skorch: Any, net: Any) -> nn.Module:
    if not isinstance(net, skorch.NeuralNet):
        raise InvalidArgumentError(
            "net must be a NeuralNet of skorch.",
            got=type(net).__name__,
            cause="a pipeline or a search around the net, or the module itself",
            fix="search.best_estimator_, pipeline[-1] with transformed inputs, or caveat.mc_dropout(module, ...)",
        )
    if not hasattr(net, "module_"):
        raise InvalidArgumentError(
            "A net must be fitted.", got=f"a {type(net).__name__} without module_", fix="net.fit(X, y) first"
        )
    return getattr(net.module_, "_orig_mod", net.module_)  # what torch.compile has wrapped
