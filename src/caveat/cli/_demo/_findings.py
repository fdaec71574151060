"""What the demo found, in sentences made from its numbers: true whichever way these come out."""

from __future__ import annotations

import math

from caveat.cli._demo._data import CLASSES
from caveat.cli._demo._readings import says
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import FULL_TURN, Turn

ANGLES = len(FULL_TURN)
SHOWN = 8


def headline(result: Result) -> str:
    """What the draws made of the turning digit."""
    right, unsure, other = result.turn.tally(result.turn.readings.mean)
    return (
        f"A rotated {result.turn.label}: recognized at {right} of {ANGLES} angles, “not sure” at {unsure}, "
        f"another digit at {other}"
    )


def without_draws(result: Result) -> str:
    """The same of the network as it is used without MC dropout."""
    right, unsure, other = result.turn.tally(result.turn.readings.single)
    return (
        f"These are means of {result.plan.draws:,} draws by MC dropout at each angle. In a single pass with dropout "
        f"off, by the same rule, the same network recognizes it at {right}, is not sure at {unsure} and takes it "
        f"for another digit at {other}."
    )


def softmax_finding(result: Result) -> str:
    """The order in which first choices follow each other."""
    chosen = [says(row).answer for row in result.turn.readings.mean]
    order = [digit for at, digit in enumerate(chosen) if at == 0 or digit != chosen[at - 1]]
    if len(order) == 1:
        return f"The first choice stays {order[0]} at every angle"
    if len(order) > 9:
        return f"The first choice changes {len(order) - 1} times as the digit turns"
    return f"As the {result.turn.label} turns, the first choice goes {' → '.join(map(str, order))}"


def confidence_finding(result: Result) -> str:
    """How sure of its first choice either way of asking is, over all angles."""
    readings = result.turn.readings
    single, mean = (float(p.amax(-1).mean()) for p in (readings.single, readings.mean))
    return f"First choice: {single:.0%} on average without draws, {mean:.0%} with"


def entropy_finding(result: Result) -> str:
    """Where the digit leaves the network most in doubt."""
    readings = result.turn.readings
    worst = int(readings.entropy.argmax())
    entropy, information = float(readings.entropy[worst]), float(readings.information[worst])
    return (
        f"Least sure at {FULL_TURN[worst]}°: {entropy:.2f} nats of at most {math.log(CLASSES):.2f}, "
        f"{information:.2f} from draws that disagree"
    )


def tally_ten(ten: list[Turn]) -> dict[str, tuple[int, int, int]]:
    """Right, not sure and other over all angles of all digits, with draws and without."""
    with_draws = [turn.tally(turn.readings.mean) for turn in ten]
    without = [turn.tally(turn.readings.single) for turn in ten]
    return {"with": _sum(with_draws), "without": _sum(without)}


def _sum(tallies: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    right, unsure, other = (sum(tally[k] for tally in tallies) for k in range(3))
    return right, unsure, other


def ten_finding(result: Result) -> str:
    """Whether the one digit was an exception."""
    tallies = tally_ten(result.ten)
    return (
        f"{len(result.ten)} digits, {ANGLES} angles each: another digit is answered "
        f"{tallies['without'][2]} times without draws, {tallies['with'][2]} times with"
    )


def accuracy_finding(result: Result) -> str:
    """Accuracy on upright test digits, with its own error."""
    with_draws, single = result.accuracies
    count = len(result.digits.test_labels)
    error = math.sqrt(max(with_draws * (1 - with_draws), 0.0) / count)
    return (
        f"On {count:,} upright test digits the mean of {result.plan.test_draws} draws is right for "
        f"{with_draws:.1%} (± {error:.1%}, one binomial standard error), the single pass for {single:.1%}."
    )


def answered_finding(result: Result) -> str:
    """What the rule costs and brings on upright test digits."""
    labels = [int(label) for label in result.digits.test_labels]
    sayings = [says(row) for row in result.test.mean]
    answered = [(s, label) for s, label in zip(sayings, labels, strict=True) if s.sure]
    right = sum(s.answer == label for s, label in answered)
    share = f", and {right / len(answered):.1%} of the answers it gives are right" if answered else ""
    return f"There it says “not sure” to {len(sayings) - len(answered)} of {len(sayings):,}{share}."


def test_digits_finding(result: Result) -> str:
    """How often the surest and the least sure first choices are right."""
    order = result.by_surety()
    shown = min(SHOWN, len(order))
    right = [int(result.test.mean[i].argmax()) == int(result.digits.test_labels[i]) for i in order]
    return (
        f"The first choice is right for {sum(right[:shown])} of the {shown} surest test digits "
        f"and {sum(right[-shown:])} of the {shown} least sure"
    )


def draws_error(result: Result) -> float:
    """The largest Monte-Carlo standard error of any mean softmax of the turn (a probability)."""
    return float(result.turn.readings.sd.max()) / math.sqrt(result.plan.draws)
