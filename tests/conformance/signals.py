"""Interrupts at random moments of predict, draws, fit and load: nothing of ours may stay behind.

    python tests/conformance/signals.py --signals 2000
    python tests/conformance/signals.py --signals 200 --moments opcodes --only "predict*"

Each call is struck once, by a real signal (SIGALRM, or the SIGINT of Ctrl-C) from a timer, or, with ``--moments
opcodes``, by a KeyboardInterrupt between two bytecodes that are counted, which is slow and the same every time.
Afterwards the process and the networks must be as they were before the call, what came out must be a
KeyboardInterrupt, and the sampler that was struck must give the numbers that it gives unstruck. When a signal comes
is up to the clock; what is asked of the call is not: one that comes too late counts as none. The exit status is 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import gc
import random
import signal
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _python_dispatch

import caveat
from caveat.tabular import Regressor

CLASSES = (nn.Module, Tensor, nn.Dropout, nn.Linear, nn.LSTM, nn.RNNBase, nn.MultiheadAttention, nn.Sequential)
SPACES = (F, torch, torch.nn.modules.module, torch.random)
"""Whose contents an interception might replace."""

LEARNT = {"__warningregistry__", "__doc__", "_cached_tensor_attributes"}
"""Names that come and go by themselves."""


def process_state() -> dict[str, Any]:
    """Random states, modes, switches, and what is in the classes and modules that could be patched."""
    modules = torch.nn.modules.module
    found: dict[str, Any] = {
        "torch's random state": torch.get_rng_state().tolist(),
        "NumPy's random state": repr(numpy.random.get_state()),  # noqa: NPY002  the global state
        "Python's random state": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "functorch's interpreter stack": torch._C._functorch.peek_interpreter_stack() is not None,
        "torch function modes": torch._C._len_torch_function_stack(),
        "torch function switched off": not torch._C._is_torch_function_enabled(),
        "torch dispatch modes": torch._C._len_torch_dispatch_stack(),
        "what torch notes of them": {k: v for k, v in vars(_python_dispatch).items() if k.startswith("_is_in_")},
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "attention's fast path": torch.backends.mha.get_fastpath_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "warnings": (list(warnings.filters), id(warnings.showwarning)),
        "garbage collection": gc.isenabled(),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "'training' in nn.Module": "training" in vars(nn.Module),
        "hooks of all modules": tuple(
            len(hooks)
            for name, hooks in vars(modules).items()
            if name.startswith("_global_") and hasattr(hooks, "__len__")
        ),
    }
    for owner in (*CLASSES, *SPACES):
        contents = {name: id(value) for name, value in vars(owner).items() if callable(value) and name not in LEARNT}
        found[f"what is in {owner.__name__}"] = contents
    return found


def network_state(networks: list[nn.Module]) -> dict[str, Any]:
    """Flags, attributes and hooks of every module; identity, place and values of every tensor."""
    found: dict[str, Any] = {}
    for number, network in enumerate(networks):
        for path, module in network.named_modules():
            where = f"network {number}, {path or 'itself'}"
            found[f"{where}: flag"] = module.training
            found[f"{where}: class"] = type(module)
            for name, value in vars(module).items():
                plain = isinstance(value, (bool, int, float, str, type(None)))
                found[f"{where}: {name}"] = (
                    value
                    if plain
                    else tuple((k, id(v)) for k, v in value.items())
                    if isinstance(value, dict)
                    else id(value)
                )
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            found[f"network {number}, values of {name}"] = (
                tensor.data_ptr(),
                tensor.requires_grad,
                tensor.grad is None,
                tensor.tolist(),
            )
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    moved = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            if added := sorted(k for k in old.keys() | new.keys() if k in old and old.get(k) != new.get(k)):
                moved.append(f"{name}: {', '.join(added[:4])}")
            continue
        moved.append(name)
    return moved


# ---------------------------------------------------------------------------------------------- what is struck


@dataclass(frozen=True)
class Scene:
    """A call to strike.

    Attributes:
        name: what is called.
        make: makes what lives on between calls (a sampler, a folder); a new one for every other strike, so that what
            happens only at a first call is struck too.
        call: the call on it.
        read: the numbers of what it returns.
        networks: the networks that must not move.
    """

    name: str
    make: Callable[[], Any]
    call: Callable[[Any], Any]
    read: Callable[[Any], Tensor]
    networks: list[nn.Module] = field(default_factory=list)


class Guarded(nn.Module):
    """Dropout that hides behind the flag, a mask by hand, a norm, and a buffer that each pass writes."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(4, 12), nn.BatchNorm1d(12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.seen.append(len(x))
        h = F.dropout(torch.relu(self.norm(self.a(x))), 0.3 if self.training else 0.0)
        h = torch.relu(self.b(h))
        if self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.7)) / 0.7
        return self.c(h)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 6, num_layers=2, dropout=0.4, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[:, None].expand(-1, 4, -1))[0].mean(1))


def dense(rate: float = 0.3) -> nn.Sequential:
    body = (nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(rate), nn.Linear(12, 12), nn.ReLU())
    return nn.Sequential(*body, nn.Dropout(rate), nn.Linear(12, 3)).eval()


def with_hooks() -> nn.Sequential:
    """Hooks that the user put there, one of which changes what a layer gives."""
    network = dense()
    network.kept = []
    network[4].register_forward_hook(lambda module, args, out: out * 0.5)
    network[7].register_forward_pre_hook(lambda module, args: None)
    return network


def scenes(folder: Path) -> list[Scene]:
    """All that is struck, on networks made from a fixed seed."""
    torch.manual_seed(0)
    x = torch.randn(5, 4)
    hooked, guarded, recurrent = with_hooks(), Guarded().eval(), Recurrent().eval()
    members, parts, simple = [dense() for _ in range(3)], [dense() for _ in range(2)], dense()

    def mc(network: nn.Module, **options: Any) -> Any:
        return caveat.mc_dropout(network, output=caveat.Logits(), **options)

    def predicted(sampler: Any) -> Any:
        return caveat.predict(sampler, x, 40, seed=3)

    def mean(pred: Any) -> Tensor:
        return pred.mean

    def sampled(name: str, make: Callable[[], Any], networks: list[nn.Module]) -> Scene:
        return Scene(f"predict, {name}", make, predicted, mean, networks)

    data = (torch.randn(40, 4), torch.randn(40, 3))
    start = {name: value.clone() for name, value in simple.state_dict().items()}

    def fitted(network: nn.Module) -> Any:
        for name, value in network.state_dict().items():  # load_state_dict has a no_grad of its own
            value.copy_(start[name])
        return caveat.fit(network, nn.MSELoss(), data, epochs=3, batch_size=16, progress=False)

    def weights(fit: Any) -> Tensor:
        return torch.cat([value.flatten() for value in fit.model.state_dict().values()])

    table = numpy.random.default_rng(0).normal(size=(60, 2))
    model = Regressor(members=2, epochs=3, width=8, draws=8).fit(table, table[:, 0])
    model.save(folder / "model")
    one = [hooked]
    return [
        sampled("vectorized", lambda: mc(hooked, backend="vectorized"), one),
        sampled("loop", lambda: mc(hooked, backend="loop", chunk=4), one),
        sampled("chunks", lambda: mc(hooked, chunk=4), one),
        sampled("hidden behind the flag", lambda: mc(guarded), [guarded]),
        sampled("recurrent", lambda: mc(recurrent), [recurrent]),
        Scene("predict, ensemble", lambda: caveat.ensemble(members, output=caveat.Logits()),
              lambda sampler: caveat.predict(sampler, x), mean, members),
        sampled("mixture", lambda: caveat.mixture([mc(part) for part in parts]), parts),
        Scene("draws", lambda: mc(guarded),
              lambda sampler: caveat.draws(sampler, x, 40, seed=3), torch.clone, [guarded]),
        Scene("predict, as many as it takes", lambda: mc(hooked),
              lambda sampler: caveat.predict(sampler, x, "auto", seed=3, tolerance=0.03, max_draws=128), mean, one),
        Scene("audit", lambda: guarded, lambda network: caveat.audit(network, x),
              lambda report: torch.tensor([site.rate for site in report]), [guarded]),
        Scene("fit", dense, fitted, weights),
        Scene("load", lambda: folder / "model", Regressor.load,
              lambda loaded: torch.as_tensor(loaded.predict(table[:4]))),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- striking


@dataclass
class Strike:
    """The one interrupt of a call: whether it is still to come, and where it came."""

    armed: bool = False
    came: bool = False
    where: str = ""
    lost: int = 0

    def fire(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signal."""
        if self.armed:
            self.armed, self.came, self.where = False, True, place(frame)
            raise KeyboardInterrupt

    def lose(self, unraisable: Any) -> None:
        """What Python calls with an exception that it swallows itself, in a finalizer or a callback."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
        self.lost += 1


STRIKE = Strike()


def place(frame: FrameType | None) -> str:
    """Where the interrupt came, and the innermost place of caveat's that was under way."""
    inner = frame
    while frame is not None and "/caveat/" not in frame.f_code.co_filename:
        frame = frame.f_back
    names = [
        f"{f.f_code.co_filename.rsplit('/', 1)[-1]}:{f.f_lineno} ({f.f_code.co_name})"
        for f in (inner, frame)
        if f is not None
    ]
    return " in ".join(dict.fromkeys(names))


@contextlib.contextmanager
def by_clock(after: float, sigint: bool) -> Iterator[None]:
    """A real signal after so many seconds."""
    signal.signal(signal.SIGALRM, (lambda *_: signal.raise_signal(signal.SIGINT)) if sigint else STRIKE.fire)
    signal.signal(signal.SIGINT, STRIKE.fire)
    STRIKE.armed = True
    signal.setitimer(signal.ITIMER_REAL, max(after, 1e-6))
    try:
        yield
    finally:
        STRIKE.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def by_opcodes(at: int, counted: list[int]) -> Iterator[None]:
    """A KeyboardInterrupt before bytecode number ``at`` of the call, all frames counted."""
    own = __file__

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename == own:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            counted[0] += 1
            if counted[0] == at:
                STRIKE.fire(0, frame)
        return trace

    STRIKE.armed = True
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
        STRIKE.armed = False


@dataclass
class Tally:
    """What became of the strikes on one scene."""

    struck: int = 0
    late: int = 0
    swallowed: int = 0
    wrong: list[str] = field(default_factory=list)


def repair(before: dict[str, Any], contents: dict[str, Any]) -> None:
    """Undo what a call left behind, as far as it would spoil the calls after it; it has been told of."""
    torch._C._set_grad_enabled(before["grad mode"])
    while torch._C._functorch.peek_interpreter_stack() is not None:
        torch._C._functorch.pop_dynamic_layer_stack()
    while torch._C._len_torch_function_stack() > before["torch function modes"]:
        torch._C._pop_torch_function_stack()
    for name in set(vars(nn.Module)) | contents.keys():
        if name not in contents:
            delattr(nn.Module, name)
        elif vars(nn.Module).get(name) is not contents[name]:
            setattr(nn.Module, name, contents[name])


class Target:
    """A scene, the numbers it gives unstruck, and how long it takes or how many bytecodes it runs."""

    def __init__(self, scene: Scene, opcodes: bool) -> None:
        self.scene, self.opcodes, self.tally = scene, opcodes, Tally()
        self.kept = scene.make()
        self.right = scene.read(scene.call(self.kept)).clone()
        self.spans = {fresh: [self.span(fresh) for _ in range(1 if opcodes else 3)] for fresh in (True, False)}

    def span(self, fresh: bool) -> float:
        held, counted = self.scene.make() if fresh else self.kept, [0]
        start = time.perf_counter()
        with by_opcodes(-1, counted) if self.opcodes else contextlib.nullcontext():
            self.scene.call(held)
        return counted[0] if self.opcodes else time.perf_counter() - start

    def strike(self, source: random.Random) -> None:
        """Strike one call, and hold it to account."""
        fresh = source.random() < 0.5
        held = self.scene.make() if fresh else self.kept
        moment = source.random() * statistics.median(self.spans[fresh])
        before, contents = process_state() | network_state(self.scene.networks), dict(vars(nn.Module))
        STRIKE.came, STRIKE.where, STRIKE.lost = False, "", 0
        result, raised = None, None
        try:
            with by_opcodes(1 + int(moment), [0]) if self.opcodes else by_clock(moment, source.random() < 0.5):
                result = self.scene.call(held)
        except BaseException as error:
            raised = error
        after = process_state() | network_state(self.scene.networks)
        self.judge(held, before, after, contents, result, raised)

    def judge(
        self, held: Any, before: Any, after: Any, contents: Any, result: Any, raised: BaseException | None
    ) -> None:
        tally = self.tally
        if STRIKE.came:
            tally.struck += 1
        else:
            tally.late += 1
        if raised is not None and (not isinstance(raised, KeyboardInterrupt) or not STRIKE.came):
            last = traceback.extract_tb(raised.__traceback__)[-1]
            at = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
            tally.wrong.append(f"{type(raised).__name__}: {raised} ({at}); struck at {STRIKE.where}")
        if moved := differences(before, after):
            tally.wrong.append(f"left behind: {'; '.join(moved[:5])}; struck at {STRIKE.where}")
            repair(before, contents)
        if raised is None:
            tally.swallowed += STRIKE.came
            if not self.same(result):
                tally.wrong.append(f"swallowed, and other numbers; struck at {STRIKE.where}")
        try:
            if not self.same(self.scene.call(held)):
                tally.wrong.append(f"other numbers afterwards; struck at {STRIKE.where}")
        except Exception as error:
            tally.wrong.append(
                f"afterwards {type(error).__name__}: {str(error).splitlines()[:1]}; struck at {STRIKE.where}"
            )

    def same(self, result: Any) -> bool:
        numbers = self.scene.read(result)
        return numbers.shape == self.right.shape and torch.allclose(
            numbers, self.right, rtol=1e-5, atol=1e-6, equal_nan=True
        )


def say(line: str) -> None:
    """A line on the terminal, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Strike, print a line a scene and what went wrong, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=2000, help="how many calls to strike, over all scenes")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--only", default="*", help="a pattern of scenes' names")
    parser.add_argument(
        "--moments", choices=("clock", "opcodes"), default="clock", help="what the moments are counted in"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sys.unraisablehook = STRIKE.lose
    source = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = [scene for scene in scenes(Path(folder)) if fnmatch.fnmatch(scene.name, options.only)]
        each = -(-options.signals // max(len(found), 1))
        wrong = struck = 0
        for scene in found:
            target = Target(scene, options.moments == "opcodes")
            for _ in range(4 * each):
                if target.tally.struck == each:
                    break
                target.strike(source)
            tally = target.tally
            wrong, struck = wrong + len(tally.wrong), struck + tally.struck
            counts = f"{tally.struck} struck, {tally.late} late, {tally.swallowed} swallowed"
            say(f"{scene.name}: {counts}, {len(tally.wrong)} wrong")
            for what, times in Counter(tally.wrong).most_common(12):
                say(f"    {times} x {what}")
    say(f"{wrong} wrong of {struck} struck")
    return int(wrong > 0 or struck < options.signals * 0.5)


if __name__ == "__main__":
    sys.exit(main())
