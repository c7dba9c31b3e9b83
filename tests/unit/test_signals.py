"""Ending signals interrupt a command, except those that were ignored before it began."""

from __future__ import annotations

import os
import signal

import pytest

from migrator.signals import interruptible, point_of_no_return

pytestmark = pytest.mark.usefixtures("default_signals")


def test_sigterm_interrupts_and_its_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_signals_come_too_late_after_the_point_of_no_return() -> None:
    with interruptible(), point_of_no_return() as pass_it:
        pass_it()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_interrupt_before_the_point_of_no_return() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible(), point_of_no_return():
        os.kill(os.getpid(), signal.SIGTERM)
