"""What a trial warns of is its thread's alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat._intercept import warnings_caught

SLOW = "There is a performance drop because we have not yet implemented the batching rule for something."


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class Beside(nn.Module):
    """A network in each of whose passes another thread warns, as one that looks at a slow network does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(4, 16), nn.Linear(16, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        in_a_thread(lambda: warnings.warn(SLOW, UserWarning, stacklevel=1))
        return self.last(self.drop(self.first(x).relu()))


def test_what_another_thread_warns_of_does_not_decide_and_is_shown(recwarn: pytest.WarningsRecorder) -> None:
    sampler = caveat.mc_dropout(Beside(), output=caveat.Logits())
    caveat.draws(sampler, torch.randn(5, 4), n=3)
    assert [plan.why_not_vectorized for plan in sampler._plans._found.values()] == [None]
    assert any("performance drop" in str(one.message) for one in recwarn)


def test_its_own_warnings_are_caught_each_time_and_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("once")
    for _ in range(2):
        with warnings_caught() as caught:
            warnings.warn(SLOW, UserWarning, stacklevel=1)
        assert [str(one.message) for one in caught] == [SLOW]
    assert not recwarn.list


def test_two_threads_that_leave_in_the_order_of_entering_leave_nothing() -> None:
    before = warnings.filters[:], warnings.showwarning, warnings._showwarnmsg_impl  # type: ignore[attr-defined]
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with warnings_caught():
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=second)
    with warnings_caught():
        thread.start()
        assert entered.wait(60)
    left.set()
    thread.join()
    assert before == (warnings.filters, warnings.showwarning, warnings._showwarnmsg_impl)  # type: ignore[attr-defined]


def test_a_function_of_the_users_that_shows_warnings_gets_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def show(message: Warning | str, *more: object) -> None:
        shown.append(str(message))

    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings_caught() as caught:
        warnings.warn(SLOW, UserWarning, stacklevel=1)
        in_a_thread(lambda: warnings.warn(SLOW, UserWarning, stacklevel=1))
    assert len(caught) == len(shown) == 1
    assert warnings.showwarning is show
