"""The audit: every site of a network, whether it is live, and what would pass it by."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from caveat._checks import require_choice, require_model
from caveat._inputs import Axes, as_inputs
from caveat._intercept._guard import interruptible
from caveat._intercept._hidden import DECIDED, UNSEEN, WITH_DROPOUT
from caveat._intercept._network import Network
from caveat._intercept._possible import check_initialized, is_one_layer_with_dropout, is_script, module_rate
from caveat._intercept._probe import Probe, probe_network
from caveat._intercept._reads import ReadKey, place
from caveat._intercept._rules import Observation
from caveat._intercept._sites import LivePredicate, all_dropout
from caveat._table_text import format_html
from caveat.errors import NotInterceptedWarning, RowsNotSeparatedWarning

_HEAD = ("site", "kind", "rate", "live", "called", "what passes it by")

_PASSED_BY = {
    "dropout": "eval() switches it off",
    "attention": "eval() switches it off; torch's fused attention takes no dropout",
    "lstm": "eval() switches it off; it is inside one call of torch",
    "gru": "eval() switches it off; it is inside one call of torch",
    "rnn": "eval() switches it off; it is inside one call of torch",
    "noise": "nothing: it is drawn in eval mode too, here from caveat's own source",
}

_MADE_BY_TORCH = "if they are a dropout, make them with torch (torch.rand, torch.bernoulli) or take nn.Dropout"


@dataclass(frozen=True)
class AuditedSite:
    """One line of an audit. ``path`` is '' for the model itself; ``rate`` is NaN for noise that is not dropout."""

    path: str
    kind: str
    rate: float
    live: bool
    called: bool
    passed_by: str


@dataclass(frozen=True, repr=False)
class Audit:
    """What ``caveat.audit`` found. ``print`` it."""

    sites: tuple[AuditedSite, ...]
    notes: tuple[str, ...]

    @property
    def live(self) -> tuple[AuditedSite, ...]:
        """The sites that fire."""
        return tuple(site for site in self.sites if site.live and site.called)

    def __iter__(self) -> Iterator[AuditedSite]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def __repr__(self) -> str:
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines.append(f"{len(self.live)} of {len(self.sites)} sites are live.")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        title = f"{len(self.live)} of {len(self.sites)} sites are live."
        return format_html(title, _HEAD, self._rows(), after="\n".join(f"Note: {note}" for note in self.notes))

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (s.path or "(model)", s.kind, f"{s.rate:g}", _yes(s.live), _yes(s.called), s.passed_by) for s in self.sites
        ]


@interruptible
def audit(
    model: nn.Module, x: Any, *, live: LivePredicate = all_dropout, masks: str = "shared", in_dims: Any = None
) -> Audit:
    """Every site of ``model``: its path, kind, rate, whether it is live and called, and what would pass it by.

    The network runs a few times on one or two rows of ``x``, without drawing; nothing of it changes.

    Args:
        model: any network.
        x: a batch, as for ``caveat.predict``.
        live: which sites are asked for, as for ``caveat.mc_dropout``.
        masks: "shared" or "per_row", as for ``caveat.mc_dropout``.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Raises:
        InvalidArgumentError: not a network, an empty batch, or another word for ``masks``.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
        >>> print(audit(model, torch.zeros(2, 4)))
        site  kind     rate  live  called  what passes it by
        ----  -------  ----  ----  ------  ----------------------
        2     dropout  0.1   yes   yes     eval() switches it off
        1 of 1 sites are live.
    """
    require_model(model)
    require_choice(masks, "masks", ("shared", "per_row"))
    network = Network(model)
    check_initialized(network)
    inputs = as_inputs(x, network.device())
    found = probe_network(network, inputs, live, masks == "per_row", lambda returned: returned, in_dims)
    return audit_of(network, found)


def audit_of(network: Network, found: Probe) -> Audit:
    """The audit that a probe amounts to."""
    hidden_at = {id(module): _read_at(key) for key, module in _hidden_owners(found)}
    reads = " or ".join(sorted(_read_at(key) for key in found.rules.flips))
    for observation in found.observed:  # what reads the flag for such a module is another one, or a function
        if observation.kind == "noise" and network.paths[id(observation.module)] not in found.noisy:
            hidden_at.setdefault(id(observation.module), reads)
    called = [_called_site(network, observation, hidden_at) for observation in found.observed]
    paths = {site.path for site in called}
    silent = [site for site in _silent_sites(network, found) if site.path not in paths]
    return Audit((*called, *silent), tuple(_notes(network, found)))


def _hidden_owners(found: Probe) -> list[tuple[Any, nn.Module]]:
    owners = {id(s.module): s.module for s in found.observed if s.live}
    return [(key, module) for key in found.rules.flips for module in owners.values() if _could_read(module, key)]


def _read_at(key: ReadKey) -> str:
    return place(key) if isinstance(key[0], type) else f"self.training at {place(key)}"


def _could_read(module: nn.Module, key: ReadKey) -> bool:
    if isinstance(key[0], type):
        return type(module) is key[0]
    values = (value for cls in type(module).__mro__ for value in vars(cls).values())
    return any(getattr(value, "__code__", None) is key[0] for value in values)


def _called_site(network: Network, observation: Observation, hidden_at: dict[int, str]) -> AuditedSite:
    path = network.paths[id(observation.module)]
    if observation.kind == "stochastic depth":
        passed_by = "one number per row leaves out a branch: ask for it with live=caveat.with_stochastic_depth"
    elif observation.rate == 0:
        passed_by = "rate 0"
    elif not observation.live:
        passed_by = "live= leaves it out"
    elif id(observation.module) in hidden_at:
        passed_by = f"hidden behind {hidden_at[id(observation.module)]}"
    else:
        passed_by = _PASSED_BY.get(observation.kind, _PASSED_BY["dropout"])
    return AuditedSite(path, observation.kind, observation.rate, observation.live, True, passed_by)


def _silent_sites(network: Network, found: Probe) -> Iterator[AuditedSite]:
    """Modules that could be sites and drew nothing in the pass."""
    for module in network.modules:
        path, rate = network.paths[id(module)], module_rate(module)
        live = rate is not None and rate > 0 and found.rules.live(path, module)
        ran = path in found.called
        if is_script(module) and path and _has_dropout(module):
            yield AuditedSite(path, "TorchScript", float("nan"), False, ran, "its calls cannot be intercepted")
        elif is_one_layer_with_dropout(module):
            why = (
                f"torch drops between layers only: dropout={module.dropout:g} of one layer is ignored: num_layers=2, "
                "caveat.insert_dropout behind it, or caveat.layers.VariationalLSTM (VariationalGRU)"
            )
            yield AuditedSite(path, type(module).__name__.lower(), 0.0, False, ran, why)
        elif rate is not None and not isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
            why = "the forward pass ran it, but torch never saw a dropout call" if ran else "never called"
            yield AuditedSite(path, _kind_of(module), rate, live, ran, why)


def _has_dropout(module: nn.Module) -> bool:
    return any("Dropout" in str(getattr(part, "original_name", "")) for part in module.modules())


def _kind_of(module: nn.Module) -> str:
    return {"AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout"}.get(
        type(module).__name__, type(module).__name__.lower()
    )


def _notes(network: Network, found: Probe) -> Iterator[str]:
    if found.axes is None:
        yield (
            "no axis of the inputs behaves as a batch (a row alone does not give what it gives among others), "
            "so masks are not shared between rows and rows are never separated. in_dims= can say which axes it is."
        )
    elif not found.separable and not found.rows_alone:
        yield "the network mixes rows: one alone does not give what it gives among others, so rows are never separated."
    if found.rows_alone:
        yield (
            "some site's tensor does not show which entries are of which row (rows are chosen, packed, padded or "
            "looped over), so each row is evaluated by itself: right, and slower."
        )
    scripts = [network.paths[id(module)] for module in network.modules if is_script(module)]
    for path in scripts:
        if not any(path.startswith(f"{other}.") or (other == "" and path) for other in scripts):
            yield f"{path or '(model)'} is TorchScript: its calls cannot be seen, so what it may drop stays as it is."
    for reason in found.refused:
        yield f"left off: {reason}"
    if found.written:
        yield f"{len(found.written)} buffer(s) are written in every forward pass; they are put back after each call."


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def warn_not_separated(axes: Axes | None) -> None:
    """Says that the rows of a batch are not told apart, and what follows."""
    why = "a row gives something else alone than among others" if axes is not None else "no axis behaves as a batch"
    warnings.warn(
        f"caveat cannot separate the rows of these inputs: {why}. Draws are right for the batch as it is, but masks "
        "are not shared between rows, and a row's draws depend on its batch. If the network does not mix rows, say "
        "which axes are the batch: in_dims=0, or (0, None) for forward(x, shared).",
        RowsNotSeparatedWarning,
        stacklevel=2,
    )


def warn_not_intercepted(refused: Iterable[str]) -> None:
    """Says which random numbers stay off because nothing can take their place, or take a dropout with them."""
    for reason in refused:
        if reason.endswith((UNSEEN, WITH_DROPOUT, DECIDED)):
            fix = "give the dropout a read of its own" if reason.endswith(WITH_DROPOUT) else _MADE_BY_TORCH
            fix = "multiply the layer's result by the number instead" if reason.endswith(DECIDED) else fix
            warnings.warn(
                f"caveat draws without some random numbers of this network: {reason}: {fix}.",
                NotInterceptedWarning,
                stacklevel=2,
            )
