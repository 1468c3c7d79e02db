"""A stop cuts off what may be cut off, and only asks everything else."""

from __future__ import annotations

import os
import signal

import pytest

from m2r_train.stages.stop import StopNow, StopRequest


def send(number: signal.Signals = signal.SIGTERM) -> None:
    """A real signal to this process; its handler has run when this returns."""
    os.kill(os.getpid(), number)


def test_a_signal_is_noted_and_says_which() -> None:
    stop = StopRequest()
    with stop.listening():
        assert not stop
        send()
        assert stop
        assert stop.reason == "SIGTERM"


def test_the_former_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest().listening():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_at_once_means_that_a_signal_cuts_the_block_off() -> None:
    stop = StopRequest()
    passed = False
    with stop.listening(), pytest.raises(StopNow), stop.at_once():
        send()
        passed = True
    assert not passed
    assert stop


def test_a_stop_that_came_before_cuts_off_at_the_beginning() -> None:
    stop = StopRequest()
    with stop.listening():
        send()
        with pytest.raises(StopNow), stop.at_once():
            pytest.fail("the block was entered")


def test_what_must_not_be_cut_off_is_asked_and_cut_off_after_its_end() -> None:
    stop = StopRequest()
    seen: list[str] = []
    with stop.listening(), pytest.raises(StopNow), stop.at_once():
        with stop.when_asked():
            send()
            seen.append("asked" if stop else "not asked")
        seen.append("went on")
    assert seen == ["asked"]


def test_outside_of_at_once_nothing_is_cut_off() -> None:
    stop = StopRequest()
    with stop.listening():
        with stop.at_once():
            pass
        send()
        with stop.when_asked():
            pass
    assert stop


def test_libraries_that_catch_every_exception_do_not_swallow_a_stop() -> None:
    stop = StopRequest()
    with stop.listening(), pytest.raises(StopNow), stop.at_once():
        try:
            send()
        except Exception:
            pytest.fail("swallowed")


@pytest.mark.parametrize(
    ("second", "ends"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["ctrl-c", "sigterm"]
)
def test_a_second_ctrl_c_ends_the_process(second: signal.Signals, ends: bool) -> None:
    stop = StopRequest()
    with stop.listening():
        send(signal.SIGINT)
        if ends:
            with pytest.raises(KeyboardInterrupt):
                send(second)
        else:
            send(second)
