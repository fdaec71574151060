"""What was passed in place of a sampler, a batch or a loader, and what to pass. Asked only once something failed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset

from caveat._engine._loaded import check_fits
from caveat._engine._sampler import Sampler
from caveat.errors import CaveatError, InvalidArgumentError, explain_no_network

_USUAL_TYPE = {torch.float64: "data as NumPy or pandas gives it", torch.int64: "whole numbers, as tables have"}
_BATCHES = "for pred in caveat.predict_batches(sampler, loader): ..."


def check_passed(sampler: Any, x: Any, error: Exception) -> None:
    """Raise ``InvalidArgumentError`` if what was passed explains ``error``, the failure of a call with it."""
    # An error of caveat's shows a sampler, unless it says that a Tensor.size or a class's is no number of draws.
    if not isinstance(error, CaveatError) or isinstance(sampler, (type, Tensor, nn.Module)):
        check_sampler_passed(sampler, x)
    _check_batch(x)
    model = getattr(sampler, "model", None) or next(iter(getattr(sampler, "models", ())), None)
    if isinstance(error, TypeError) and isinstance(model, nn.Module):
        check_fits(x, model)
    if not isinstance(error, CaveatError) and isinstance(model, nn.Module) and "type" in str(error):
        _check_type(x, model)


def check_sampler_passed(sampler: Any, x: Any) -> None:
    """Raise ``InvalidArgumentError`` unless ``sampler`` is one."""
    if not isinstance(sampler, type) and isinstance(sampler, Sampler):
        return
    x = cast(object, x)
    rule, name = "The first argument is a sampler.", type(sampler).__name__
    own_name: str = getattr(sampler, "__name__", name)
    wrapped = "caveat.mc_dropout(network, output=caveat.Logits()), or caveat.ensemble([...], output=...)"
    if isinstance(sampler, (str, os.PathLike)):
        raise InvalidArgumentError(explain_no_network(cast(object, sampler), rule))
    if not isinstance(x, type) and isinstance(x, Sampler):
        got, cause, fix = f"{name}, and the sampler second", "arguments in another order", "predict(sampler, x)"
    elif isinstance(x, nn.Module):
        got, cause = f"{name}, and a network second", "arguments in another order, and a network that is not wrapped"
        fix = f"predict(sampler, x), with sampler = {wrapped}"
    elif isinstance(sampler, type):
        got, cause, fix = f"the class {own_name}", "the brackets left out", f"make one first: {wrapped}"
    elif isinstance(sampler, nn.Module):
        got, cause = f"a network, {name}", "a network says nothing of its uncertainty, nor how it is read"
        fix = f"wrap it: {wrapped}"
    elif isinstance(sampler, Sequence) and any(isinstance(part, nn.Module) for part in cast(Sequence[Any], sampler)):
        got, cause, fix = f"a {name} of networks", "the members of an ensemble", "caveat.ensemble(networks, output=...)"
    elif callable(cast(object, sampler)):
        got, cause, fix = f"a function, {own_name}", "a sampler not yet made", wrapped
    else:
        missing = [part for part in ("output", "size", "strata", "bind") if not hasattr(cast(object, sampler), part)]
        got, cause = f"{name} without {', '.join(missing)}", "something else, or arguments in another order"
        fix = f"pass a sampler: {wrapped}"
    raise InvalidArgumentError(rule, got=got, cause=cause, fix=fix)


def check_loader_passed(loader: Any) -> None:
    """Raise ``InvalidArgumentError`` if iterating ``loader`` would not give batches."""
    loader = cast(object, loader)
    fix = "pass a DataLoader, or a list of batches: x.split(256)"
    name = type(loader).__name__
    if isinstance(loader, (Tensor, np.ndarray)):
        got, cause = f"one {name}, whose items are rows and no batches", "a batch for predict"
        fix = "caveat.predict(sampler, x), or predict_batches(sampler, x.split(256))"
    elif isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        got = f"a dataset, {name}, whose items are examples and no batches"
        cause = "no DataLoader around it"
        fix = "predict_batches(sampler, torch.utils.data.DataLoader(dataset, batch_size=256))"
    elif isinstance(loader, (Mapping, str, os.PathLike, nn.Module)) or not _iterates(loader):
        got, cause = name, "a batch for predict, or arguments in another order"
    else:
        return
    raise InvalidArgumentError("A loader gives batches.", got=got, cause=cause, fix=fix)


def _check_batch(x: Any) -> None:
    rule = "x is one batch: a tensor, a tuple of arguments or a dict of keyword arguments."
    x = cast(object, x)
    kind = type(x).__name__
    if isinstance(x, (DataLoader, Iterator, IterableDataset)):
        got, cause, fix = f"a {kind} of batches", "a loader was passed whole", _BATCHES
    elif isinstance(x, Dataset):
        got, cause = f"a {kind} of examples", "a dataset was passed whole"
        fix = f"loader = torch.utils.data.DataLoader(dataset, batch_size=256), then {_BATCHES}"
    elif any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(x)):
        place = "" if isinstance(x, np.ndarray) else f" in a {kind}"
        got, cause = f"a NumPy array{place}", "data as NumPy or pandas gives it"
        fix = "pass torch.as_tensor(x, dtype=torch.float32)"
    elif hasattr(x, "to_numpy") and not isinstance(x, Tensor):
        got, cause = f"a {kind}", "a table"
        fix = "pass torch.as_tensor(x.to_numpy(), dtype=torch.float32), or use caveat.tabular"
    elif isinstance(x, (type, nn.Module)) or (not isinstance(x, Tensor) and isinstance(x, Sampler)):
        got = getattr(cast(object, x), "__name__", kind)
        cause, fix = "arguments in another order", "predict(sampler, x)"
    elif isinstance(x, (str, os.PathLike)):
        got, cause = f"{kind} {str(cast(object, x))!r}", "a path or a sentence"
        fix = "pass the tensors that the network takes"
    else:
        return
    raise InvalidArgumentError(rule, got=got, cause=cause, fix=fix)


def _check_type(x: Any, model: nn.Module) -> None:
    """Raise ``InvalidArgumentError`` if none of the numbers of ``x`` are of the type of the network's."""
    tensors = [leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor)]
    given = {leaf.dtype for leaf in tensors if leaf.is_floating_point()} or {leaf.dtype for leaf in tensors}
    own = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    if len(given) != 1 or len(own) != 1 or given == own:
        return
    (got,), (needed,) = given, own
    raise InvalidArgumentError(
        "The numbers of a batch are of the type that the network computes in.",
        got=f"{got}, and {type(model).__name__} has weights of {needed}",
        cause=_USUAL_TYPE.get(got),
        fix=f"x.to({needed}), or model.to({got})" if got.is_floating_point else f"x.to({needed})",
    )


def _iterates(value: Any) -> bool:
    return hasattr(value, "__iter__") or hasattr(value, "__getitem__")
