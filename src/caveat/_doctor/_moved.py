"""What a run left changed, as faults: the names of a fingerprint sorted by what they are of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from caveat._doctor._diagnosis import Fault
from caveat._doctor._faults import fault

_ITSELF = "(the network itself)"
_OF_A_MODULE = re.compile(r"(training flag|class|attribute names|attribute (\S+)|_\w+_hooks) of (.*) of network \d+")
_OF_A_TENSOR = re.compile(r"(parameter|buffer) (.*) of network \d+")
_RANDOM = {"torch's random state", "NumPy's random state", "Python's random state"}


def faults_of_moved(moved: Iterable[str], by_batch: set[str], *, mode: bool) -> list[Fault]:
    """The faults that changes amount to.

    Args:
        moved: Names of what differs, as ``caveat.testing.fingerprint(...).differences`` gives them.
        by_batch: The modules that normalized by the batch: of these the buffers are named elsewhere.
        mode: Whether flags count; not where switching them is the way that is looked at.
    """
    places = defaultdict[str, list[str]](list)
    what = defaultdict[str, list[str]](list)
    for name in moved:
        if (match := _OF_A_TENSOR.fullmatch(name)) is not None:
            module = match[2].rpartition(".")[0]
            if match[1] == "parameter" or module not in by_batch:
                places[f"{match[1]}s_changed"].append(match[2])
        elif (match := _OF_A_MODULE.fullmatch(name)) is not None:
            path = match[3].replace(_ITSELF, "")
            if match[2] == "training":  # the flag once more
                continue
            if match[1] == "training flag":
                places["left_in_train_mode"].append(path)
            elif match[1].startswith("_"):
                places["hooks_left"].append(path)
            else:
                places["attributes_changed"].append(path)
                what["attributes_changed"].append(match[2] or match[1])
        elif name.startswith("input tensor"):
            what["inputs_changed"].append(name)
        elif name not in _RANDOM and "of network" not in name:
            what["process_state_changed"].append(name)
    flags = [path for path in places.pop("left_in_train_mode", []) if path not in places["attributes_changed"]]
    if mode and flags:
        places["left_in_train_mode"] = [""] if "" in flags else flags
    names = [name for name in {**places, **what} if places[name] or what[name]]
    return [fault(name, places[name], ", ".join(dict.fromkeys(what[name]))) for name in names]


def buffers_moved(moved: Iterable[str], path: str) -> bool:
    """Did a buffer of this module change?"""
    matches = (_OF_A_TENSOR.fullmatch(name) for name in moved)
    return any(match and match[1] == "buffer" and match[2].rpartition(".")[0] == path for match in matches)
