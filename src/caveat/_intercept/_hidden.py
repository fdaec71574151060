"""Sites that hide behind ``self.training``: found by trying.

``F.dropout(x, p, self.training)`` shows its rate whatever the flag says. But ``p if self.training else 0``, or a call
inside ``if self.training:``, shows nothing in eval mode. Each place in code that reads the flag is tried alone: it may
read True while drawing only if that brings live sites (dropout of torch's, or random numbers that become a mask: see
``multipliers``) and changes nothing else: what is returned has the same structure, and no buffer is written. What the
code or its class is called does not matter. Where layers take ``training`` as an argument, as those of Keras do, the
argument is such a place. A recurrent layer of Keras makes its masks in any case and uses them in training only: then
True may be said if it changes what the network returns while sites fire, and nothing while they rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from caveat._intercept._layout import agree
from caveat._intercept._looks import ProbePass
from caveat._intercept._reads import ReadKey, place
from caveat._intercept._rules import Observation
from caveat._intercept._sites import LivePredicate, all_dropout

_MOST_TRIALS = 200
_DEEPEST = 3
_WRITES = "it writes on a buffer"
UNSEEN = "they cannot be intercepted (NumPy's or Python's own, a compiled function's, another operator's)"
WITH_DROPOUT = "a dropout comes with them and stays off, too"
DECIDED = "a number that Python reads may choose which layers run"
_NOT_ASKED_FOR = "they are no mask (noise, samples, shuffles), drop whole branches (stochastic depth), or live= says no"


@dataclass(frozen=True)
class Hidden:
    """The reads that are to say True while drawing, the last look with all of them, and why others may not."""

    flips: frozenset[ReadKey]
    probe: ProbePass
    refused: tuple[str, ...]


def find_hidden(
    probe: Callable[[frozenset[ReadKey]], ProbePass | None],
    first: ProbePass,
    live: LivePredicate,
    path_of: Callable[[Any], str],
    independent: Callable[[frozenset[ReadKey], ProbePass], bool],
    fired: Callable[[frozenset[ReadKey]], Any],
) -> Hidden:
    """Try the reads of ``training``, one by one and, where one uncovers others, together.

    Args:
        probe: runs a pass with these reads saying True; None if it raises.
        first: the look with no read changed.
        live: which sites are asked for.
        path_of: the path of a module.
        fired: what is read of one draw with these reads saying True; None if it raises.
        independent: with these reads saying True, does a row among others still give what this look gave it alone?
    """
    accepted, current = frozenset[ReadKey](), first
    refused = list[str]()
    waiting = [frozenset([read]) for read in first.seen.reads]
    known = set(first.seen.reads)
    trials = 0
    while waiting and trials < _MOST_TRIALS:
        trial = waiting.pop(0)
        trials += 1
        found = probe(accepted | trial)
        if found is None:
            continue
        gained = _asked_for(found, live, path_of) > _asked_for(current, live, path_of)
        if not gained and _asked_for(current, live, path_of) and any(isinstance(code, type) for code, _ in trial):
            gained = agree(found.returned, current.returned)
            gained = gained and not agree(fired(accepted | trial), fired(accepted), torch.equal)
        let_in = _unwanted(found, live, path_of) > _unwanted(current, live, path_of)
        why_not = _trouble(found, current, live, path_of) if gained or let_in else None
        decides = _deciding(found, live, path_of) > _deciding(current, live, path_of)
        if why_not is _WRITES and not let_in and not _new_noise(found, current):
            # A counter beside a dropout of torch's is put back, like all that a pass writes; statistics mix rows.
            why_not = None if independent(accepted | trial, found) else _WRITES
        if gained and why_not is None:
            accepted, current = accepted | trial, found
        elif why_not is not None and len(trial) == 1:
            if gained and why_not is _NOT_ASKED_FOR:
                why_not = f"{why_not}; {WITH_DROPOUT}"
            elif why_not is _NOT_ASKED_FOR and decides:
                why_not = f"{why_not}; {DECIDED}"
            refused.append(f"{place(next(iter(trial)))} reads training, which lets in random numbers; {why_not}")
        elif found.seen.unmanaged and not current.seen.unmanaged and not gained and len(trial) == 1:
            refused.append(f"{place(next(iter(trial)))} reads training, which lets in random numbers; {UNSEEN}")
        elif decides and why_not is None and len(trial) == 1:  # the number is drawn in any case
            refused.append(f"{place(next(iter(trial)))} reads training, which lets in random numbers; {DECIDED}")
        fresh = [read for read in found.seen.reads if read not in known]
        known.update(fresh)
        if gained and why_not is None:
            waiting += [frozenset([read]) for read in fresh]
        elif len(trial) < _DEEPEST:
            waiting += [trial | {read} for read in fresh]
    return Hidden(accepted, current, tuple(refused))


def _asked_for(probe: ProbePass, live: LivePredicate, path_of: Callable[[Any], str]) -> int:
    return sum(_wanted(observation, live, path_of) for observation in probe.seen.observed)


def _wanted(observation: Observation, live: LivePredicate, path_of: Callable[[Any], str]) -> bool:
    if observation.kind != "noise":
        return observation.live
    asked_for = observation.masks and live(path_of(observation.module), observation.module)
    return asked_for and not (live is all_dropout and drops_branches(observation))


def drops_branches(observation: Observation) -> bool:
    """Returns whether one number is drawn for a row, as where stochastic depth leaves out a branch; of one row."""
    shape = observation.row_shape or observation.mask_shape
    if shape is None or math.prod(shape) != 1:
        return False
    # A dropout of a single feature has one number too; a mask that is made by dropping ones has nothing else.
    return observation.kind == "noise" or (observation.tensor is not None and bool((observation.tensor == 1).all()))


def _deciding(probe: ProbePass, live: LivePredicate, path_of: Callable[[Any], str]) -> int:
    """Returns how many numbers that are asked for Python reads, as where a layer is skipped; unasked it rests."""
    if live is all_dropout:
        return 0
    return sum(each.decides and live(path_of(each.module), each.module) for each in probe.seen.observed)


def _trouble(found: ProbePass, current: ProbePass, live: LivePredicate, path_of: Callable[[Any], str]) -> str | None:
    if found.structure != current.structure:
        return "it changes what the network returns"
    if found.seen.written - current.seen.written:
        return _WRITES
    if _unwanted(found, live, path_of) > _unwanted(current, live, path_of):
        return _NOT_ASKED_FOR
    return None


def _new_noise(found: ProbePass, current: ProbePass) -> bool:
    return _noises(found) > _noises(current)


def _noises(probe: ProbePass) -> int:
    return sum(observation.kind == "noise" for observation in probe.seen.observed)


def _unwanted(probe: ProbePass, live: LivePredicate, path_of: Callable[[Any], str]) -> int:
    noises = [observation for observation in probe.seen.observed if observation.kind == "noise"]
    return sum(not _wanted(observation, live, path_of) for observation in noises)
