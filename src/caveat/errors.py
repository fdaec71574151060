"""Every exception that caveat raises on purpose.

::

    CaveatError
    ├── NothingRandomError (ValueError)       the model cannot vary from draw to draw
    ├── InvalidArgumentError (ValueError)     n = 0, an empty batch, an unknown name, a rate outside [0, 1)
    │   ├── InvalidDataError                  tables, sentences, pictures, or a loader that raised
    │   ├── InvalidModelError                 a model's folder that is none, was changed, or is newer
    │   ├── UnsupportedModelError             a call that moments or ONNX have no rule for
    │   └── NoThresholdError                  decide: no threshold keeps the promise
    ├── OutputMismatchError (ValueError)      the network's return does not fit the declared output
    │   └── NotProbabilitiesError             values declared as probabilities that are not
    ├── NotFiniteError (ArithmeticError)      NaN in what the network returned
    ├── CannotMergeError (ValueError)         two predictives of different kinds, shapes or settings
    ├── DrawsNotKeptError (LookupError)       a question that needs the draws, which were not kept
    ├── OutOfMemoryError (MemoryError)        one draw of one row does not fit
    ├── BusyError (BlockingIOError)           a file or folder that another process is writing
    ├── LedgerError (ValueError)              decide: a ledger cut off in mid-line, edited, moved or deleted
    └── MissingExtraError (ImportError)       an optional dependency is not installed

A package exports the errors that belong to it as well: ``caveat.decide.NoThresholdError``. Each message says the
rule, what was got, the usual cause if there is one, and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, cast

__all__ = [
    "BusyError",
    "CannotMergeError",
    "CaveatError",
    "DoubtfulDataWarning",
    "DrawsNotKeptError",
    "InvalidArgumentError",
    "InvalidDataError",
    "InvalidModelError",
    "LedgerError",
    "MissingExtraError",
    "NoThresholdError",
    "NotFiniteError",
    "NotInterceptedWarning",
    "NotProbabilitiesError",
    "NothingRandomError",
    "OutOfMemoryError",
    "OutputMismatchError",
    "RowsNotSeparatedWarning",
    "UnsupportedModelError",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


class CaveatError(Exception):
    """The root: ``except caveat.CaveatError`` catches all that caveat raises on purpose.

    Args:
        rule: What must hold.
        got: What was got.
        cause: The usual cause, where there is one.
        fix: What to do, as code if it can be.

    Example:
        >>> raise InvalidArgumentError("n must be at least 1.", got="n=0", fix="pass n=100")
        Traceback (most recent call last):
        caveat.errors.InvalidArgumentError: n must be at least 1.
          Got: n=0
          Fix: pass n=100
    """

    def __init__(
        self, rule: str = "", *, got: str | None = None, cause: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(explain(rule, got=got, cause=cause, fix=fix))


class NothingRandomError(CaveatError, ValueError):
    """The model cannot vary: no site is live, or none reaches the output that is read."""


class InvalidArgumentError(CaveatError, ValueError):
    """An argument that no call could use: n = 0, an empty batch, an unknown name."""


class InvalidDataError(InvalidArgumentError):
    """Rows that cannot be learned from or predicted for: the message names the file, the column and the row.

    They are tables, sentences, pictures and their answers, or the batches of a loader that raised half-way: its own
    error is the cause then, and the batches before it were given.
    """


class InvalidModelError(InvalidArgumentError):
    """A folder that is no model of caveat's, is cut short, was changed, or is of a newer version."""


class UnsupportedModelError(InvalidArgumentError, NotImplementedError):
    """A network that a method does not support, such as moment propagation or ONNX; the message names the call."""


class NoThresholdError(InvalidArgumentError):
    """No threshold keeps the promise that was asked for, on these calibration rows."""


class OutputMismatchError(CaveatError, ValueError):
    """What the network returned cannot be read as the declared output."""


class NotProbabilitiesError(OutputMismatchError):
    """Values declared as probabilities that are negative or do not sum to one."""


class NotFiniteError(CaveatError, ArithmeticError):
    """NaN where a number was needed."""


class CannotMergeError(CaveatError, ValueError):
    """Two predictives of different kinds, shapes or settings."""


class DrawsNotKeptError(CaveatError, LookupError):
    """A question that only the draws themselves answer, of a predictive that did not keep them."""


class OutOfMemoryError(CaveatError, MemoryError):
    """One draw of one row does not fit in memory: there is nothing left to halve."""


class BusyError(CaveatError, BlockingIOError):
    """A file or folder that another process is writing."""


class LedgerError(CaveatError, ValueError):
    """The file of a ledger is cut off in mid-line, was changed, or was moved or deleted while it was open.

    Fields:
        records: of a last line cut in mid-write, the whole records before it.
        rest: the bytes of that line; empty where anything else is wrong.
    """

    def __init__(
        self, rule: str = "", records: Sequence[dict[str, Any]] = (), rest: bytes = b"", **parts: str
    ) -> None:
        super().__init__(rule, **parts)
        self.records, self.rest = list(records), rest


class MissingExtraError(CaveatError, ImportError):
    """An optional dependency is not installed."""


class DoubtfulDataWarning(UserWarning):
    """Rows that could be read in part only, or in two ways; the message says which, and how they were read."""


class NotInterceptedWarning(UserWarning):
    """Random numbers that a network draws in training cannot be intercepted, or not alone: draws leave them off."""


class RowsNotSeparatedWarning(UserWarning):
    """Which axis of the inputs is the batch could not be told: draws are of the batch as a whole."""


def explain(rule: str, *, got: str | None = None, cause: str | None = None, fix: str | None = None) -> str:
    """Returns the text of an error: the rule, and what was got, the usual cause and the fix as far as they are given.

    Example:
        >>> print(explain("n must be at least 1.", got="n=0", cause="an empty range", fix="pass n=100"))
        n must be at least 1.
          Got: n=0
          Usual cause: an empty range
          Fix: pass n=100
    """
    given = {"Got": got, "Usual cause": cause, "Fix": fix}
    return "\n  ".join([rule, *(f"{name}: {text}" for name, text in given.items() if text is not None)])


WEIGHTS_FILES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".tar")
"""How the names of files end that hold the weights of a network, and not the network."""


def explain_no_network(value: object, rule: str = "A model is a torch.nn.Module.", *, place: str = "") -> str:
    """The text of an error for what was passed in place of a network: a path, a state dict, a class or anything else.

    Example:
        >>> print(explain_no_network("weights.pt"))
        A model is a torch.nn.Module.
          Got: the path 'weights.pt'
          Usual cause: a file of weights, which does not hold the network that they are of
          Fix: build the network, then network.load_state_dict(torch.load('weights.pt', weights_only=True))
    """
    kind = type(value).__name__
    if isinstance(value, (str, PathLike)):
        path = str(cast(object, value))
        got, cause = f"the path {path!r}", "a file of weights, which does not hold the network that they are of"
        fix = _how_to_load(path)
    elif isinstance(value, Mapping):
        got, cause = f"a {kind}", "a state dict, which does not hold the network that it is of"
        fix = "build the network, then network.load_state_dict(state), and pass the network"
    elif isinstance(value, type):
        got, cause, fix = f"the class {value.__name__}", "the brackets left out", f"pass one: {value.__name__}(...)"
    else:
        got, cause = kind, "a function, a sampler or data in place of the network"
        fix = "pass the network itself; wrap a function in an nn.Module whose forward calls it"
    return explain(rule, got=got + place, cause=cause, fix=fix)


def explain_no_run(error: Exception) -> str:
    """The text of an error for a network that raised another on the batch that came with it."""
    return explain(
        "The network must run on the batch.",
        got=f"{type(error).__name__}: {error}".splitlines()[0],
        cause="a batch of another shape or dtype, without its batch axis, or several arguments in a list",
        fix="model.eval()(x) must run; pass several arguments as a tuple, keyword arguments as a dict",
    )


def _how_to_load(path: str) -> str:
    if path.endswith(".ckpt"):
        return (
            f"build the network, then state = torch.load({path!r}, weights_only=True)['state_dict'] and "
            "network.load_state_dict({name.removeprefix('model.'): value for name, value in state.items()}), "
            "without the prefix that Lightning puts before each name"
        )
    if path.endswith(".safetensors"):
        return f"build the network, then network.load_state_dict(safetensors.torch.load_file({path!r}))"
    if path.endswith(WEIGHTS_FILES):
        return f"build the network, then network.load_state_dict(torch.load({path!r}, weights_only=True))"
    return "build or load the network, such as transformers' AutoModel.from_pretrained(...), and pass it"
