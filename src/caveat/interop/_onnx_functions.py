"""What the library adds to a network in an ONNX file: its hash and its summaries, as functions in ONNX's own text form.

Integers are unsigned words that wrap around; their constants are those of ``caveat._seeds`` and ``caveat._intercept``.
Sums over draws are in double precision, as in ``caveat.predictive``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Template
from typing import Any

from caveat._extras import require
from caveat._intercept import FIRST_32, SECOND_32
from caveat._seeds import FIRST_64, GAMMA, SECOND_64
from caveat.errors import UnsupportedModelError
from caveat.predictive import BinaryLogit, Logits, Mean, MeanAndLogVariance, MeanAndVariance, Probabilities

DOMAIN = "caveat"
OPSET = 20
_NUMBERS: dict[str, object] = {
    "GAMMA": GAMMA,
    "FIRST_64": FIRST_64,
    "SECOND_64": SECOND_64,
    "FIRST_32": FIRST_32,
    "SECOND_32": SECOND_32 % (1 << 32),
    "FLOAT": 1,  # the numbers of types are ONNX's
    "INT32": 6,
    "DOUBLE": 11,
    "UINT32": 12,
    "UINT64": 13,
    "CELL": 2.0**-24,
    "MOST": 1 - 2.0**-24,
}

_HASH = """
ShiftXor (word, by) => (mixed) {
  shifted = BitShift<direction = "RIGHT"> (word, by)
  mixed = BitwiseXor(word, shifted)
}
Finish (word) => (key) {
  first = Constant<value = uint64 {$FIRST_64}> ()
  second = Constant<value = uint64 {$SECOND_64}> ()
  by30 = Constant<value = uint64 {30}> ()
  by27 = Constant<value = uint64 {27}> ()
  by31 = Constant<value = uint64 {31}> ()
  a = caveat.ShiftXor(word, by30)
  b = Mul(a, first)
  c = caveat.ShiftXor(b, by27)
  d = Mul(c, second)
  key = caveat.ShiftXor(d, by31)
}
Mix (word) => (key) {
  gamma = Constant<value = uint64 {$GAMMA}> ()
  next = Add(word, gamma)
  key = caveat.Finish(next)
}
SiteBase (seed, site) => (base) {
  word = Cast<to = $UINT64> (seed)
  mixed = caveat.Mix(word)
  both = BitwiseXor(mixed, site)
  base = caveat.Mix(both)
}
RandomBits (base, index, words) => (bits) {
  gamma = Constant<value = uint64 {$GAMMA}> ()
  by32 = Constant<value = uint64 {32}> ()
  low = Constant<value = uint64 {4294967295}> ()
  first = Constant<value = uint32 {$FIRST_32}> ()
  second = Constant<value = uint32 {$SECOND_32}> ()
  by16 = Constant<value = uint32 {16}> ()
  by15 = Constant<value = uint32 {15}> ()
  step = Mul(index, gamma)
  start = Add(step, base)
  key = caveat.Finish(start)
  key_low = BitwiseAnd(key, low)
  key_high = BitShift<direction = "RIGHT"> (key, by32)
  to_add = Cast<to = $UINT32> (key_low)
  to_flip = Cast<to = $UINT32> (key_high)
  a = Add(words, to_add)
  b = caveat.ShiftXor(a, by16)
  c = Mul(b, first)
  d = BitwiseXor(c, to_flip)
  e = caveat.ShiftXor(d, by15)
  f = Mul(e, second)
  bits = caveat.ShiftXor(f, by16)
}
Keep (base, index, words, threshold) => (keep) {
  bits = caveat.RandomBits(base, index, words)
  signed = Cast<to = $INT32> (bits)
  keep = GreaterOrEqual(signed, threshold)
}
Uniform (base, index, words) => (uniform) {
  top = Constant<value = uint32 {2147483648}> ()
  by8 = Constant<value = uint32 {8}> ()
  half = Constant<value = float {0.5}> ()
  cell = Constant<value = float {$CELL}> ()
  most = Constant<value = float {$MOST}> ()
  bits = caveat.RandomBits(base, index, words)
  turned = BitwiseXor(bits, top)
  cells = BitShift<direction = "RIGHT"> (turned, by8)
  count = Cast<to = $FLOAT> (cells)
  middle = Add(count, half)
  scaled = Mul(middle, cell)
  uniform = Min(scaled, most)
}
DrawAndRow (draw, rows, ones) => (index) {
  by32 = Constant<value = uint64 {32}> ()
  zero = Constant<value = int64 {0}> ()
  one = Constant<value = int64 {1}> ()
  high = BitShift<direction = "LEFT"> (draw, by32)
  end = Squeeze(rows)
  range = Range(zero, end, one)
  low = Cast<to = $UINT64> (range)
  pairs = Add(low, high)
  shape = Concat<axis = 0> (rows, ones)
  index = Reshape(pairs, shape)
}
"""

_MOMENTS = """
Average (mean, value, draw) => (next) {
  one = Constant<value = int64 {1}> ()
  number = Add(draw, one)
  count = Cast<to = $DOUBLE> (number)
  away = Sub(value, mean)
  part = Div(away, count)
  next = Add(mean, part)
}
Squares (squares, mean, next, value) => (more) {
  before = Sub(value, mean)
  after = Sub(value, next)
  product = Mul(before, after)
  more = Add(squares, product)
}
Variance (squares, n) => (variance) {
  one = Constant<value = int64 {1}> ()
  fewer = Sub(n, one)
  others = Max(fewer, one)
  count = Cast<to = $DOUBLE> (others)
  variance = Div(squares, count)
}
Entropy (p) => (entropy) {
  least = Constant<value = double {1e-307}> ()
  last = Constant<value = int64[1] {-1}> ()
  floored = Max(p, least)
  log_p = Log(floored)
  product = Mul(p, log_p)
  sum = ReduceSum<keepdims = 0> (product, last)
  entropy = Neg(sum)
}
Information (p, noise, n) => (total, gain) {
  zero = Constant<value = double {0}> ()
  one = Constant<value = int64 {1}> ()
  total = caveat.Entropy(p)
  difference = Sub(total, noise)
  positive = Max(difference, zero)
  several = Greater(n, one)
  gain = Where(several, positive, zero)
}
"""

_CLASSES = """
SummaryK (mean, squares, noise, n) => (p, variance, predictive_entropy, expected_entropy, mutual_information) {
  p = Identity(mean)
  variance = caveat.Variance(squares, n)
  expected_entropy = Identity(noise)
  predictive_entropy, mutual_information = caveat.Information(mean, noise, n)
}
"""
_YES = """
SummaryK (mean, squares, noise, n) => (p, variance, predictive_entropy, expected_entropy, mutual_information) {
  one = Constant<value = int64 {1}> ()
  p = Gather<axis = -1> (mean, one)
  both = caveat.Variance(squares, n)
  variance = Gather<axis = -1> (both, one)
  expected_entropy = Identity(noise)
  predictive_entropy, mutual_information = caveat.Information(mean, noise, n)
}
"""
_NUMBERS_OF_TARGETS = """
SummaryK (mean, squares, noise, n) => (average, variance, epistemic_variance, aleatoric_variance) {
  average = Identity(mean)
  epistemic_variance = caveat.Variance(squares, n)
  aleatoric_variance = Identity(noise)
  variance = Add(epistemic_variance, noise)
}
"""
_OF_CLASSES = ("mean", "variance", "predictive_entropy", "expected_entropy", "mutual_information")
_OF_TARGETS = ("mean", "variance", "epistemic_variance", "aleatoric_variance")

_READ: dict[Any, tuple[str, str, tuple[str, ...]]] = {
    Logits: (
        """
ReadK (draw) => (value, noise) {
  scores = Cast<to = $DOUBLE> (draw)
  value = Softmax<axis = -1> (scores)
  noise = caveat.Entropy(value)
}
""",
        _CLASSES,
        _OF_CLASSES,
    ),
    Probabilities: (
        """
ReadK (draw) => (value, noise) {
  last = Constant<value = int64[1] {-1}> ()
  wide = Cast<to = $DOUBLE> (draw)
  sum = ReduceSum<keepdims = 1> (wide, last)
  value = Div(wide, sum)
  noise = caveat.Entropy(value)
}
""",
        _CLASSES,
        _OF_CLASSES,
    ),
    BinaryLogit: (
        """
ReadK (draw) => (value, noise) {
  last = Constant<value = int64[1] {-1}> ()
  wide = Cast<to = $DOUBLE> (draw)
  yes = Unsqueeze(wide, last)
  no = Sub(yes, yes)
  scores = Concat<axis = -1> (no, yes)
  value = Softmax<axis = -1> (scores)
  noise = caveat.Entropy(value)
}
""",
        _YES,
        _OF_CLASSES,
    ),
    Mean: (
        """
ReadK (draw) => (value, noise) {
  known = Constant<value = double {$NOISE}> ()
  value = Cast<to = $DOUBLE> (draw)
  zeros = Sub(value, value)
  noise = Add(zeros, known)
}
""",
        _NUMBERS_OF_TARGETS,
        _OF_TARGETS,
    ),
    MeanAndVariance: (
        """
ReadK (draw) => (value, noise) {
  first = Constant<value = int64 {0}> ()
  second = Constant<value = int64 {1}> ()
  wide = Cast<to = $DOUBLE> (draw)
  value = Gather<axis = -1> (wide, first)
  noise = Gather<axis = -1> (wide, second)
}
""",
        _NUMBERS_OF_TARGETS,
        _OF_TARGETS,
    ),
    MeanAndLogVariance: (
        """
ReadK (draw) => (value, noise) {
  first = Constant<value = int64 {0}> ()
  second = Constant<value = int64 {1}> ()
  wide = Cast<to = $DOUBLE> (draw)
  value = Gather<axis = -1> (wide, first)
  log_noise = Gather<axis = -1> (wide, second)
  noise = Exp(log_noise)
}
""",
        _NUMBERS_OF_TARGETS,
        _OF_TARGETS,
    ),
}


@dataclass(frozen=True)
class Summary:
    """How the draws of one output are summed up: functions for its reading and its end, and what that gives."""

    text: str
    read: str
    finish: str
    names: tuple[str, ...]


def summary_of(output: object, number: int) -> Summary:
    """The functions for an output, which are named by its number among the heads.

    Raises:
        UnsupportedModelError: an output of another kind.
    """
    known = _READ.get(type(output))
    if known is None:
        raise UnsupportedModelError(
            "Only summaries of the library's own outputs can be exported.",
            got=type(output).__name__,
            cause="an output of your own",
            fix='caveat.export_onnx(..., what="draws"), and sum them up where the file runs',
        )
    read, finish, names = known
    text = (read + finish).replace("K (", f"{number} (").replace("$NOISE", repr(getattr(output, "noise_variance", 0)))
    return Summary(text, f"Read{number}", f"Summary{number}", names)


def functions_for(summaries: list[Summary]) -> list[Any]:
    """The library's functions as ONNX has them, with those of the summaries."""
    parser = require("onnx.parser", "onnx")
    text = Template(_HASH + (_MOMENTS if summaries else "") + "".join(s.text for s in summaries)).substitute(_NUMBERS)
    head = f'<domain: "{DOMAIN}", opset_import: ["": {OPSET}, "{DOMAIN}": 1]>\n'
    return [parser.parse_function(head + one) for one in re.findall(r"^\w+ \(.*?^}", text, re.DOTALL | re.MULTILINE)]
