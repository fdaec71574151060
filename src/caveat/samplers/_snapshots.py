"""Snapshots of one training run as an ensemble.

See "Snapshot Ensembles: Train 1, Get M for Free", Huang et al., 2017.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import P
from caveat._extras import require
from caveat._intercept import Network
from caveat.errors import InvalidArgumentError
from caveat.predictive import Output
from caveat.samplers._ensemble import Ensemble, ensemble

_ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors")
# Names under which frameworks put the weights in a checkpoint.
_INSIDE = ("state_dict", "model_state_dict", "model")


def snapshots(
    checkpoints: Any,
    *,
    model: nn.Module | None = None,
    output: Output[P] | dict[str, Output],
    last: int | None = None,
    in_dims: Any = None,
) -> Ensemble[P]:
    """A sampler of the states that one training run passed through: a snapshot ensemble. Draw i is snapshot i.

    Args:
        checkpoints: networks, state dicts or paths of checkpoints, in order; or a folder, whose ``.pt``, ``.pth``,
            ``.ckpt`` and ``.safetensors`` files are taken in the order of the numbers in their names.
        model: Network that state dicts and files are of; it is copied for each and stays as it is.
        output: How to read what a network returns, or a dict of outputs by name for several heads.
        last: Number of the last snapshots to take; all if not given.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        An ensemble of the snapshots. They are more alike than networks trained apart: expect less spread.

    Raises:
        InvalidArgumentError: no checkpoints, state dicts without a ``model``, or a checkpoint of another network.

    See "Snapshot Ensembles: Train 1, Get M for Free", Huang et al., 2017, https://arxiv.org/abs/1704.00109.

    Example:
        >>> import caveat
        >>> network, states = nn.Linear(4, 3), []
        >>> for step in range(3):
        ...     _ = nn.init.normal_(network.weight)            # stands for a cycle of training
        ...     states.append(copy.deepcopy(network.state_dict()))
        >>> sampler = snapshots(states, model=network, output=caveat.Logits())
        >>> caveat.predict(sampler, torch.zeros(2, 4)).mean.shape
        torch.Size([2, 3])
    """
    found = _listed(checkpoints)
    if last is not None:
        if last < 1:
            raise _invalid(f"last={last}", "a computed number that came out as nothing", "leave last out for all")
        found = found[-last:]
    _check_apart(found)
    networks = [loaded(checkpoint, model, number) for number, checkpoint in enumerate(found)]
    return ensemble(networks, output=output, in_dims=in_dims)


def _listed(checkpoints: Any) -> list[Any]:
    if isinstance(checkpoints, (str, os.PathLike)):
        folder = Path(cast("str | os.PathLike[str]", checkpoints))
        if not folder.is_dir():
            raise _invalid(f"{folder}, which is no folder", "a typo", "pass a folder, or a list of files")
        files = [path for path in folder.iterdir() if path.suffix in _ENDINGS]
        found: list[Any] = sorted(files, key=_in_order)
    elif isinstance(checkpoints, (nn.Module, Mapping)) or not isinstance(checkpoints, Iterable):
        kind = type(cast(object, checkpoints)).__name__
        raise _invalid(kind, "a single checkpoint was passed", "pass a list of them")
    else:
        found = [*cast(Iterable[Any], checkpoints)]
    if not found:
        raise _invalid("none", "an empty list, or a folder without .pt, .pth, .ckpt or .safetensors files", "pass some")
    return found


def _in_order(path: Path) -> list[Any]:
    """``epoch_9`` before ``epoch_10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def loaded(checkpoint: Any, network: nn.Module | None, number: int) -> nn.Module:
    """The network of a checkpoint: as it is, or a copy of ``network`` with its state."""
    if isinstance(checkpoint, nn.Module):
        return checkpoint
    if network is None:
        raise _invalid(
            f"{type(checkpoint).__name__} as checkpoint {number}, and no network",
            "state dicts and files hold weights, not the network that they are of",
            "snapshots(states, model=network, output=...)",
        )
    state = checkpoint
    if not isinstance(checkpoint, Mapping):
        state = _read(Path(checkpoint), Network(network).device())
    state = cast("dict[str, Any]", state)
    for name in _INSIDE:
        if name in state and isinstance(state[name], Mapping):
            state = cast("dict[str, Any]", state[name])
    made = copy_model(network)
    try:
        made.load_state_dict(_without_prefix(state, made.state_dict().keys()))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise _invalid(
            f"checkpoint {number} does not fit a {type(network).__name__}: {' '.join(lines)}",
            "a checkpoint of another network, of another size, or of a part of it",
            "pass the network that was trained, built with the same arguments",
        ) from error
    return made


def copy_model(network: nn.Module) -> nn.Module:
    """Returns a copy, also of a network with tensors that a pass has computed, as the older ``weight_norm`` keeps."""
    values = [value for module in network.modules() for value in vars(module).values()]
    computed = [value for value in values if isinstance(value, Tensor) and not value.is_leaf]
    return copy.deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in computed})


def _check_apart(checkpoints: list[Any]) -> None:
    """State dicts of one network that was trained on share its tensors: each is the last."""
    first = dict[frozenset[int], int]()
    for number, checkpoint in enumerate(checkpoints):
        parts: list[Any] = pytree.tree_leaves(checkpoint) if isinstance(checkpoint, Mapping) else []
        places = frozenset(part.data_ptr() for part in parts if isinstance(part, Tensor) and part.numel())
        twin = first.setdefault(places, number) if places else number
        if twin != number:
            raise _invalid(
                f"state dicts {twin} and {number}, which share their tensors: both hold the weights of now",
                "states.append(network.state_dict()) in the loop that goes on training",
                "states.append(copy.deepcopy(network.state_dict()))",
            )


def _without_prefix(state: Mapping[str, Any], names: Set[str]) -> Mapping[str, Any]:
    """Returns the state under the names of the network itself, where a wrapper put one prefix before all of them.

    Lightning names them ``model.`` or ``net.`` by the attribute, ``DataParallel`` ``module.``, ``torch.compile``
    ``_orig_mod.``; what a wrapper holds besides stays out.
    """
    if not names or names <= state.keys():
        return state
    ending = next(iter(names))
    prefixes = sorted({name.removesuffix(ending) for name in state if name.endswith(f".{ending}")})
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in names)]
    if len(fitting) > 1:
        raise _invalid(
            f"a checkpoint of several such networks, under {', '.join(map(repr, fitting))}",
            "averaged weights beside the ones that were trained",
            f"pass the state dicts of one: {{name.removeprefix({fitting[0]!r}): value for name, value in state.items() "
            f"if name.startswith({fitting[0]!r})}}",
        )
    return {name: state[fitting[0] + name] for name in names} if fitting else state


def _read(path: Path, device: torch.device) -> Any:
    if path.suffix == ".safetensors":
        return require("safetensors.torch", "checkpoints").load_file(str(path), device=str(device))
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise _invalid(
            f"{path.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "a file cut off while it was written, a missing one, or one that holds more than tensors",
            "torch.save(network.state_dict(), path), and pass that",
        ) from error


def _invalid(got: str, cause: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError("Snapshots are checkpoints of one network.", got=got, cause=cause, fix=fix)
