"""fastai: a ``Learner`` in, predictives of its data loader out. fastai itself is never imported.

A learner holds its network, its data and its loss, which is all that is needed: the loss says what the network returns,
the loader how many items of a batch the network takes and in which order it gives the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import P, as_output, predict
from caveat._intercept import LivePredicate, all_dropout
from caveat.errors import InvalidArgumentError
from caveat.predictive import (
    Bernoulli,
    BinaryLogit,
    Categorical,
    Gaussian,
    Logits,
    Mean,
    Output,
    Predictive,
    concatenate,
)
from caveat.samplers import mc_dropout

_REGRESSION = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


@overload
def fastai_predict(
    learner: Any,
    dl: Any = None,
    *,
    output: Output[P] | dict[str, Output],
    n: int | Literal["auto"] = 100,
    seed: int = 0,
    live: LivePredicate = all_dropout,
    **settings: Any,
) -> P: ...
@overload
def fastai_predict(
    learner: Any,
    dl: Any = None,
    *,
    output: None = None,
    n: int | Literal["auto"] = 100,
    seed: int = 0,
    live: LivePredicate = all_dropout,
    **settings: Any,
) -> Categorical | Bernoulli | Gaussian: ...
def fastai_predict(
    learner: Any,
    dl: Any = None,
    *,
    output: Any = None,
    n: int | Literal["auto"] = 100,
    seed: int = 0,
    live: LivePredicate = all_dropout,
    **settings: Any,
) -> Predictive:
    """Returns the predictive of every row of a fastai data loader, by MC dropout of the learner's network.

    As ``learner.get_preds(dl=dl)``, with the draws of thinned networks in place of one pass: images, texts, and tables
    with their embeddings. Rows are in the order of the data set, also where the loader sorts them by length. The
    network stays as it is, on its device and in its mode, and no callback of the learner runs.

    Args:
        learner: A ``fastai.learner.Learner``, or anything with ``model``, ``dls`` and ``loss_func``.
        dl: The loader, such as ``learner.dls.test_dl(df)``; that of the validation set if not given.
        output: How to read what the network returns. If not given, it follows from the loss: cross-entropy is
            ``Logits``, binary cross-entropy ``BinaryLogit``, squared and absolute errors ``Mean``. Of a network with
            ``reset``, as those of fastai for texts, it is the first item where a tuple is returned.
        n: Number of draws, or "auto".
        seed: Random seed for the draws: the same functions for every batch.
        live: Which sites fire, as for ``caveat.mc_dropout``.
        settings: Other arguments of ``caveat.predict`` (``tolerance``, ``keep``, ...).

    Returns:
        ``Categorical``, ``Bernoulli`` or ``Gaussian`` of all N rows.

    Raises:
        InvalidArgumentError: Not a learner, a loader without rows, or a loss that does not say what is returned.
        NothingRandomError: The network has no dropout that reaches what is read.
        OutputMismatchError: The network does not return what ``output`` reads.

    See "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, https://arxiv.org/abs/1506.02142.
    """
    _check_learner(learner)
    model = cast(nn.Module, learner.model)
    read: Any = as_output(output) if output is not None else _output_of(learner.loss_func, hasattr(model, "reset"))
    sampler = mc_dropout(model, output=read, live=live)
    loader, order = _in_order(learner.dls.valid if dl is None else dl)
    parts = [predict(sampler, x, n, seed=seed, **settings) for x in _batches(loader)]
    if not parts:
        raise InvalidArgumentError(
            "A loader must give at least one batch.", got="none", cause="an empty table", fix="pass rows"
        )
    whole = concatenate(parts)
    return whole if order is None else whole.rows(order)


def _batches(loader: Any) -> Iterator[tuple[Any, ...]]:
    """What the network takes of each batch, as plain tensors."""
    for batch in loader:
        items: tuple[Any, ...] = tuple(cast(Any, batch)) if isinstance(batch, (tuple, list)) else (batch,)
        inputs = items[: int(getattr(loader, "n_inp", 0)) or max(len(items) - 1, 1)]
        yield pytree.tree_map_only(Tensor, lambda x: x.as_subclass(Tensor), inputs)


def _in_order(loader: Any) -> tuple[Any, Tensor | None]:
    """The loader with its order fixed, and the place of each row of the data set in it."""
    if not hasattr(loader, "get_idxs") or not hasattr(loader, "new"):
        return loader, None
    places = [int(place) for place in loader.get_idxs()]
    fixed = loader.new(get_idxs=lambda: places, shuffle=False, drop_last=False)
    return fixed, torch.tensor(places).argsort()


def _output_of(loss: Any, recurrent: bool) -> Output:
    select = _scores if recurrent else None
    inner = getattr(loss, "func", loss)  # fastai's losses hold one of torch's
    if isinstance(inner, nn.CrossEntropyLoss):
        return Logits(class_dim=int(getattr(loss, "axis", -1)), select=select)
    if isinstance(inner, nn.BCEWithLogitsLoss):
        return BinaryLogit(select=select)
    if isinstance(inner, _REGRESSION):
        return Mean(select=select)
    raise InvalidArgumentError(
        "The loss must say what the network returns, or output= must.",
        got=f"a loss of the kind {type(inner).__name__}",
        cause="a loss of your own",
        fix="fastai_predict(learner, output=caveat.Logits())",
    )


def _scores(returned: Any) -> Any:
    """What fastai's ``RNNCallback`` keeps: the first of (scores, states, states without their dropout)."""
    return cast(Any, returned[0]) if isinstance(returned, tuple) else returned


def _check_learner(learner: Any) -> None:
    missing = [name for name in ("model", "dls", "loss_func") if getattr(learner, name, None) is None]
    if missing or not isinstance(learner.model, nn.Module):
        raise InvalidArgumentError(
            "learner must be a fastai Learner: it holds a model, data loaders and a loss.",
            got=f"{type(learner).__name__} without {', '.join(missing) or 'a torch.nn.Module as its model'}",
            cause="the network, or the Learner's data loaders, were passed",
            fix="fastai_predict(learner); for a network alone caveat.mc_dropout(model, output=...)",
        )
