"""The regression page's computing: points and settings in, training in small slices, a picture out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

import caveat
from caveat._checks import require_choice, require_integer, require_number
from caveat._seeds import fold_in
from caveat.cli._playground._gaussian_process import condition
from caveat.cli._playground._guard import read_said
from caveat.cli._playground._line_network import NONLINEARITIES, Member, make_members, train_steps
from caveat.errors import InvalidArgumentError
from caveat.predictive import Gaussian

METHODS = ("mc_dropout", "ensemble", "gaussian_process")
X_RANGE, Y_RANGE = (-5.0, 5.0), (-3.0, 3.0)
MEMBERS = 5
MOST_POINTS, MOST_DRAWS, MOST_LINES, WIDTHS = 200, 500, 24, (5, 200)
STEPS_TO_REST = 5000
_GRID = 121
_STEPS_A_SLICE = {"mc_dropout": 8, "ensemble": 3}
_DIGITS, _FAR = 4, 1e6


@dataclass(frozen=True)
class Settings:
    """What the page's controls say.

    Fields:
        method: One of `METHODS`.
        dropout: Rate at which units are dropped.
        nonlinearity: One of `NONLINEARITIES`.
        width: Units of each hidden layer.
        length_scale: How far apart points are that say little of each other, in units of x.
        draws: Number of draws that bands summarize.
    """

    method: str = "mc_dropout"
    dropout: float = 0.1
    nonlinearity: str = "relu"
    width: int = 50
    length_scale: float = 1.0
    draws: int = 100

    def check(self) -> None:
        """Raises unless each is in its range.

        Raises:
            InvalidArgumentError: One is not.
        """
        require_choice(self.method, "method", METHODS)
        require_choice(self.nonlinearity, "nonlinearity", tuple(NONLINEARITIES))
        require_number(self.dropout, "dropout", "[0, 0.9]", fix="dropout=0.1")
        require_number(self.length_scale, "length_scale", "[0.1, 10]", fix="length_scale=1")
        require_integer(self.width, "width", *WIDTHS, fix="width=50")
        require_integer(self.draws, "draws", 2, MOST_DRAWS, fix="draws=100")


@dataclass(eq=False)
class Regression:
    """Points, settings and the networks that learn them: the state of one open page."""

    settings: Settings = field(default_factory=Settings)
    points: list[list[float]] = field(default_factory=list[list[float]])
    seed: int = 0
    step: int = 0
    rested_at: int = STEPS_TO_REST
    loss: float | None = None
    members: list[Member] = field(default_factory=list[Member])
    sampler: Any = None
    pictured: bool = False

    def __post_init__(self) -> None:
        self._renew()

    @property
    def resting(self) -> bool:
        """Whether there is nothing to do until something changes."""
        learns = self.points and self.settings.method != "gaussian_process"
        return self.pictured and not (learns and self.step < self.rested_at)

    def apply(self, message: dict[str, Any]) -> None:
        """Takes what the page says: "settings", "points", "restart"; other keys are not for here.

        Raises:
            InvalidArgumentError: A setting or point that is none; nothing has changed then.
        """
        if not message.keys() & {"settings", "points", "restart"}:
            return
        settings, points = self.settings, self.points
        if "settings" in message:
            rule = "The settings must be those of the page's controls."
            settings: Settings = read_said(Settings, message["settings"], "settings", rule)
            settings.check()
        if "points" in message:
            points = points_from(message["points"])
        before = self.settings
        self.settings, self.points = settings, points
        if message.get("restart"):
            self.seed += 1
        if message.get("restart") or (settings.method, settings.width) != (before.method, before.width):
            self._renew()
        elif replace(settings, draws=before.draws) != before:
            self._adapt()
        self.rested_at = self.step + STEPS_TO_REST
        self.pictured = False

    def advance(self) -> None:
        """Trains one slice: a few steps of each member."""
        if not self.points or self.settings.method == "gaussian_process" or self.step >= self.rested_at:
            return
        points = torch.tensor(self.points)
        x, y = points[:, :1], points[:, 1:]
        steps, seed = _STEPS_A_SLICE[self.settings.method], self.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold_in(seed, "steps", self.step))
            losses = [train_steps(member, x, y, _grid(41)[:, None], steps) for member in self.members]
        self.step += steps
        self.loss = sum(losses) / len(losses)

    def picture(self) -> dict[str, Any]:
        """Returns the mean, both standard deviations and single draws over the grid, as plain numbers."""
        begun = time.perf_counter()
        grid = _grid(_GRID)
        if self.settings.method == "gaussian_process":
            mean, epistemic, aleatoric, lines = self._condition(grid)
        else:
            mean, epistemic, aleatoric, lines = self._predict(grid)
        self.pictured = True
        return {
            "step": self.step,
            "loss": self.loss,
            "resting": self.resting,
            "draws": self._draws(),
            "x": _plain(grid),
            "mean": _plain(mean),
            "epistemic": _plain(epistemic),
            "aleatoric": _plain(aleatoric),
            "lines": [_plain(line) for line in lines],
            "seconds": time.perf_counter() - begun,
        }

    def _predict(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # the same seed in every picture: draw i is the same thinned network, which moves as the weights do
        pred = cast(Gaussian, caveat.predict(self.sampler, grid[:, None], n=self._draws(), seed=0, keep=True))
        parts = caveat.decompose(pred)
        lines = pred.draws[: self._lines(), :, 0]
        return pred.mean[:, 0], parts["epistemic"][:, 0].sqrt(), parts["aleatoric"][:, 0].sqrt(), lines

    def _condition(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        points = torch.tensor(self.points, dtype=torch.float64).reshape(-1, 2)
        found = condition(
            points[:, 0],
            points[:, 1],
            grid.double(),
            length_scale=self.settings.length_scale,
            draws=self._lines(),
            seed=self.seed,
        )
        return found.mean, found.epistemic, torch.full_like(found.mean, found.aleatoric), found.lines

    def _draws(self) -> int:
        if self.settings.method == "ensemble":
            return MEMBERS
        alone = self.settings.method == "mc_dropout" and self.settings.dropout == 0  # one function, as often as drawn
        return 1 if alone else self.settings.draws

    def _lines(self) -> int:
        return min(self._draws(), MOST_LINES)

    def _renew(self) -> None:
        """Makes new networks, untrained."""
        self.step, self.loss = 0, None
        count = {"mc_dropout": 1, "ensemble": MEMBERS}.get(self.settings.method, 0)
        self.members = make_members(count, self.settings.width, self.seed)
        self._adapt()

    def _adapt(self) -> None:
        """Gives the networks the settings, and keeps what they have learned."""
        chosen = self.settings
        networks = [member.network for member in self.members]
        ensemble = chosen.method == "ensemble"
        for network in networks:
            network.adapt(chosen.nonlinearity, 0.0 if ensemble else chosen.dropout, chosen.length_scale)
        output = caveat.MeanAndLogVariance()
        if ensemble:
            self.sampler = caveat.ensemble(networks, output=output)
        elif networks:
            make = caveat.mc_dropout if chosen.dropout > 0 else caveat.deterministic
            self.sampler = make(networks[0], output=output)


def points_from(said: Any) -> list[list[float]]:
    """Returns the points of a message, [x, y] each.

    Raises:
        InvalidArgumentError: Too many, or one that is not two numbers in the picture.
    """
    rule, fix = "Points must be a list of [x, y].", "[[0.5, -1.0]]"
    points: list[list[float]] = read_said(list[list[float]], said, "points", rule, fix)
    if len(points) > MOST_POINTS:
        rule = f"There may be {MOST_POINTS} points."
        raise InvalidArgumentError(rule, got=str(len(points)), fix="delete some")
    for point in points:
        inside = len(point) == 2 and all(
            low <= value <= high for value, (low, high) in zip(point, (X_RANGE, Y_RANGE), strict=True)
        )
        if not inside:
            rule = f"A point must be [x, y] with x in {list(X_RANGE)} and y in {list(Y_RANGE)}."
            raise InvalidArgumentError(rule, got=str(point), fix="[0.5, -1.0]")
    return points


def _grid(count: int) -> Tensor:
    return torch.linspace(*X_RANGE, count)


def _plain(values: Tensor) -> list[float]:
    """Returns numbers that JSON holds, with few digits; what is far outside the picture is cut."""
    return [round(value, _DIGITS) for value in cast("list[float]", values.clamp(-_FAR, _FAR).tolist())]
