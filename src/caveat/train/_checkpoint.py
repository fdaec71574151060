"""A run's last checkpoint: a killed run that is started again ends as if it had never been killed, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat import _safetensors_file as safetensors_file
from caveat._progress import Rhythm
from caveat._state_file import differences
from caveat.errors import CaveatError, InvalidArgumentError
from caveat.train._loop import Member, Training
from caveat.train._settings import describe_setting, digest_tensors, digest_text
from caveat.train._stack import tensors_of
from caveat.train._table import Table
from caveat.train._trial import describe_network

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_LEAST_SECONDS = 1.0  # between two writings


def describe_objective(objective: Any, network: nn.Module | None) -> dict[str, Any]:
    """What is made small; told before anything calls it, which may change what a loss holds."""
    named = ("loss", "penalty", "validation_loss")
    return {name: describe_setting(getattr(objective, name), network) for name in named}


def describe_run(members: Sequence[Member], table: Table, objective: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint must share with the training that goes on from it; ``objective`` as described."""
    rows = [part for member in members for part in (member.training_rows, member.validation_rows)]
    named = ("seed", "epochs", "batch_size", "learning_rate", "weight_decay", "patience", "bootstrap", "adversarial")
    return {
        "network": digest_text(json.dumps([describe_network(member.network, rates=True) for member in members])),
        "data": digest_tensors([*table.leaves, *rows]),
        **objective,
        **{name: [getattr(member.run, name) for member in members] for name in named},
        **{
            name: [describe_setting(getattr(member.run, name), member.network) for member in members]
            for name in ("optimizer", "schedule")
        },
    }


@dataclass
class Checkpoint:
    """Where a training's state is kept, and of which training it must be."""

    path: Path
    described: dict[str, Any]
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(_LEAST_SECONDS))

    def save(self, training: Training) -> None:
        """Write the state, unless the last writing was a short while ago."""
        if self._rhythm.is_due or not training.active:
            with self._rhythm.beat():
                safetensors_file.write(self.path, dict(_tensors(training)), self._note(training))

    def restore(self, training: Training) -> None:
        """Take up the state of the file, if there is one; then begin.

        Raises:
            InvalidArgumentError: the file is of another network, of other data or of other settings.
        """
        if not self.path.exists():
            training.begin()
            return
        tensors, note = safetensors_file.read(self.path)
        self._check(note)
        try:
            self._take_up(training, tensors, note)
        except CaveatError:
            raise
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgumentError(
                "A checkpoint must be unchanged since it was written.",
                got=f"{self.path.name}, and {type(error).__name__}: {str(error)[:200]}",
                cause="the file was edited, or is of another version of caveat",
                fix="delete the file to start afresh",
            ) from error

    def _take_up(self, training: Training, tensors: dict[str, Tensor], note: Any) -> None:
        for member, kept in zip(training.members, note["members"], strict=True):
            for name in ("training", "validation", "best_epoch", "finished"):
                setattr(member, name, kept[name])
        training.epoch, training.step = note["epoch"], note["step"]
        with torch.no_grad():
            for number, member in enumerate(training.members):
                if member.finished:
                    _load(member.network, number, tensors)
            training.begin()
            for name, tensor in _running(training):
                tensor.copy_(tensors[name])
            _set_attributes(training, tensors, note["attributes"])
        if training.optimizer is not None:
            _load_optimizer(training.optimizer, tensors, note["optimizer"])

    def _note(self, training: Training) -> dict[str, Any]:
        names = ("training", "validation", "best_epoch", "finished")
        members = [{name: getattr(member, name) for name in names} for member in training.members]
        progress = {"epoch": training.epoch, "step": training.step, "members": members}
        numbers = _optimizer_state(training)[1]
        attributes = {name: value for name, value in _attributes(training) if not isinstance(value, Tensor)}
        kept = {"optimizer": numbers, "attributes": attributes}
        return {"of": self.described, "torch": torch.__version__, **kept, **progress}

    def _check(self, note: Any) -> None:
        before: Any = cast("dict[str, Any]", note)["of"] if isinstance(note, dict) else {}
        other = differences(before, self.described)
        if other:
            shown = ", ".join(f"{name} (then {then}, now {now})" for name, (then, now) in other.items())
            raise InvalidArgumentError(
                "A checkpoint can be resumed only by the same training: the same network, data and settings.",
                got=f"{self.path.name}, which differs in {shown[:600]}",
                cause="the path is used by another run, or a setting was changed since",
                fix="pass another path, or delete the file to start afresh",
            )


def _running(training: Training) -> list[tuple[str, Tensor]]:
    """The state of the members that have not finished."""
    if training.stack is None:
        return []
    best = [(f"best.{number}", tensor) for number, tensor in enumerate(training.best)]
    return [*training.stack.state(), *best]


def _tensors(training: Training) -> list[tuple[str, Tensor]]:
    finished = [(number, member.network) for number, member in enumerate(training.members) if member.finished]
    own = [
        (f"member.{number}.{k}", tensor) for number, net in finished for k, tensor in enumerate(tensors_of(net)[0])
    ]
    attributes = [(name, value.detach().clone()) for name, value in _attributes(training) if isinstance(value, Tensor)]
    return [*_running(training), *_optimizer_state(training)[0].items(), *own, *attributes]


def _attributes(training: Training) -> Iterator[tuple[str, Any]]:
    """What networks and losses hold beside parameters, such as a count of their passes: plain values, and tensors.

    Tensors only of a network of which a training pass changes an attribute, and a loss's buffers.
    """
    for place, (space, with_tensors) in _spaces(training).items():
        for name, value in space.items():
            tensor = with_tensors and isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
            if name not in _OF_EVERY_MODULE and (_is_plain(value) or (tensor and _can_be_stored(value))):
                yield f"attribute.{place}.{name}", value


def _spaces(training: Training) -> dict[str, tuple[dict[str, Any], bool]]:
    """The attributes of every module and of the losses, by place, and whether tensors among them are state."""
    found: dict[str, tuple[dict[str, Any], bool]] = {}
    for number, member in enumerate(training.members):
        for position, module in enumerate(member.network.modules()):
            found[f"{number}.{position}"] = vars(module), member.binds is not None
    objective = training.objective
    for kind, loss in (("loss", objective.loss), ("penalty", objective.penalty), ("held", objective.validation_loss)):
        parts: list[Any] = [*loss.modules()] if isinstance(loss, nn.Module) else [loss]
        for position, part in enumerate(parts):
            if hasattr(part, "__dict__") and not isinstance(part, (type, FunctionType)):
                found[f"{kind}.{position}"] = vars(part), False
            if isinstance(part, nn.Module):
                found[f"{kind}.buffers {position}"] = vars(part)["_buffers"], True
    return found


def _is_plain(value: Any) -> bool:
    """Returns whether JSON gives it back as it is."""
    if not isinstance(value, (list, dict)):
        return type(value) in (bool, int, float, str, type(None))
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError):
        return False


def _can_be_stored(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_complex() and not tensor.is_meta


def _set_attributes(training: Training, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    now, spaces = dict(_attributes(training)), _spaces(training)
    held = {name: tensor for name, tensor in tensors.items() if name.startswith("attribute.")}
    for key, value in (held | plain).items():
        before = now.get(key)
        if isinstance(value, Tensor):
            like = before if isinstance(before, Tensor) else next(training.members[0].network.parameters())
            value = value.to(like.device)
            same = isinstance(before, Tensor) and torch.equal(value, before)
        else:
            same = key in now and type(before) is type(value) and before == value
        if not same:
            _, one, two, name = key.split(".", 3)
            spaces[f"{one}.{two}"][0][name] = value


def _optimizer_state(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns what an optimizer keeps between two steps, by parameter and name: its tensors and its numbers."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    if training.optimizer is not None and training.active:
        for parameter, kept in training.optimizer.state_dict()["state"].items():
            for name, value in kept.items():
                (tensors if isinstance(value, Tensor) else numbers)[f"optimizer.{parameter}.{name}"] = value
    return tensors, numbers


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    kept = {name: value for name, value in tensors.items() if name.startswith("optimizer.")}
    for key, value in (kept | numbers).items():
        _, parameter, name = key.split(".", 2)
        state.setdefault(int(parameter), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _load(network: nn.Module, number: int, tensors: dict[str, Tensor]) -> None:
    for k, tensor in enumerate(tensors_of(network)[0]):
        tensor.copy_(tensors[f"member.{number}.{k}"])
