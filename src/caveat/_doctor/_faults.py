"""The faults by name, each with the sentence that says what is wrong, and the fix; and those of what a run changed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from caveat._doctor._diagnosis import Fault

_TEXTS: dict[str, tuple[str, str]] = {
    "site_silent": (
        "dropout does not fire in every pass{more}, so its uncertainty is missing: {where}",
        "switch on what draws there, not a class of modules: caveat.mc_dropout fires every site",
    ),
    "masks_repeated_over_draws": (
        "outputs that should be different draws share their masks{more}",
        "run the network once for each draw, with fresh random numbers, and seed at most once before the loop",
    ),
    "masks_repeated_over_rows": (
        "every row of a draw gets the same mask, so errors of different rows are not independent of each other",
        'draw masks of the whole tensor\'s shape, batch axis included; or ignore=["masks_repeated_over_rows"] if a '
        "draw is to be one function for all rows, as caveat's are",
    ),
    "batch_norm_moves": (
        "batch normalization at {where} is in train mode: {more}",
        "leave it in eval mode: switch on dropout alone, never the whole network",
    ),
    "stochastic_depth_on": (
        "stochastic depth at {where} drops whole branches, which eval mode keeps",
        "leave it in eval mode; or, if you want it, doctor(..., live=caveat.with_stochastic_depth)",
    ),
    "site_fires_twice": (
        "dropout is applied twice at {where}",
        "drop once: where the module itself is in train mode, add no function or hook that drops as well",
    ),
    "site_not_asked_for": (
        "dropout at {where} fires though live= leaves it out",
        "leave it in eval mode, or widen live=",
    ),
    "training_noise_on": (
        "random numbers that are no dropout and belong to training are drawn at {where}",
        "leave these modules in eval mode",
    ),
    "random_outside_the_network": (
        "the recipe adds random numbers of its own outside the network, which no dropout of the network explains",
        "leave them out; noise on the inputs is another method: caveat.samplers.test_time_augmentation",
    ),
    "auxiliary_heads_on": (
        "the network returns another structure than in eval mode: heads that are for training are on",
        "leave the network itself in eval mode, and switch on its dropout alone",
    ),
    "left_in_train_mode": (
        "modules are left in train mode, so that predictions after it are random: {where}",
        "end with model.eval(), in a finally",
    ),
    "buffers_changed": ("buffers at {where} have other values afterwards", "leave these modules in eval mode"),
    "parameters_changed": ("parameters at {where} are changed afterwards", "work on a copy, and take no step"),
    "attributes_changed": (
        "settings or parts of {where} are changed afterwards: {more}",
        "work on a copy.deepcopy of the model, or put them back in a finally",
    ),
    "hooks_left": ("hooks are left on {where}", "remove them in a finally: handle.remove()"),
    "inputs_changed": ("the batch itself is changed: {more}", "clone the inputs before writing on them"),
    "process_state_changed": ("a setting of the process is changed: {more}", "use the context manager that undoes it"),
    "global_seed_set": (
        "the global random state is set to a fixed value, so whatever draws next in this process repeats itself",
        "seed once in the program, or inside torch.random.fork_rng()",
    ),
    "rate_changed": ("the rate at {where} is not the network's: {more}", "drop at the rate of training"),
    "rows_depend_on_each_other": (
        "a row's output depends on the other rows of the batch, which it does not in eval mode",
        "leave what normalizes or mixes rows in eval mode, and keep the order of rows when the batch is repeated",
    ),
    "mean_differs": (
        "the mean is another than its masks explain: {more}",
        "look for a missing division by 1 - rate, mixed-up rows, a second activation, or layers left out",
    ),
    "spread_differs": (
        "the spread is another than its masks explain: {more}",
        "look for masks of another rate or shape, averaging within a draw, or noise that was added",
    ),
    "not_finite": ("outputs are NaN or infinite where the network's are not", "look for a division by a rate of 1"),
    "too_few_passes": (
        "{more} passes are few: the standard error of the mean is over a third of the spread",
        "make 20 passes or more; caveat's cost little, and n='auto' stops by itself",
    ),
    "rate_too_high": (
        "a rate of {more} leaves little more than noise of a draw: {where}",
        "train with a lower rate; 0.1 to 0.5 is usual",
    ),
}

_ITSELF = "(the network itself)"
_OF_A_MODULE = re.compile(r"(training flag|class|attribute names|attribute (\S+)|_\w+_hooks) of (.*) of network \d+")
_OF_A_TENSOR = re.compile(r"(parameter|buffer) (.*) of network \d+")
_RANDOM = {"torch's random state", "NumPy's random state", "Python's random state"}

NAMES = tuple(_TEXTS)
"""Every fault there is, worst first."""


def fault(name: str, where: Iterable[str] = (), more: str = "") -> Fault:
    """The fault of this name at these paths of modules."""
    paths = tuple(dict.fromkeys(where))
    what, fix = _TEXTS[name]
    shown = ", ".join(path or "(model)" for path in paths[:6]) + (
        f" and {len(paths) - 6} more" if len(paths) > 6 else ""
    )
    said = what.format(where=shown, more=more)
    return Fault(name, paths, f"{said[0].upper()}{said[1:]}.", f"{fix}.")


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Faults, worst first."""
    return tuple(sorted(faults, key=lambda found: NAMES.index(found.name)))


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
    """Returns whether a buffer of this module changed."""
    matches = (_OF_A_TENSOR.fullmatch(name) for name in moved)
    return any(match and match[1] == "buffer" and match[2].rpartition(".")[0] == path for match in matches)
