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

BROADCAST = "Using a target size (torch.Size([3])) that is different to the input size (torch.Size([3, 1]))."


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_what_another_thread_warns_of_does_not_decide_and_is_shown(recwarn: pytest.WarningsRecorder) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        in_a_thread(lambda: warnings.warn(BROADCAST, UserWarning, stacklevel=1))
        return (output - target).square().mean()

    fitted = caveat.fit(nn.Linear(4, 2), loss, (torch.randn(20, 4), torch.randn(20, 2)), epochs=1)
    assert fitted.epochs == 1
    assert any("different to the input size" in str(one.message) for one in recwarn)


def test_its_own_warnings_are_caught_each_time_and_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("once")
    for _ in range(2):
        with warnings_caught() as caught:
            warnings.warn(BROADCAST, UserWarning, stacklevel=1)
        assert [str(one.message) for one in caught] == [BROADCAST]
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
        warnings.warn(BROADCAST, UserWarning, stacklevel=1)
        in_a_thread(lambda: warnings.warn(BROADCAST, UserWarning, stacklevel=1))
    assert len(caught) == len(shown) == 1
    assert warnings.showwarning is show
