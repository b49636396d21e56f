"""What Ctrl-C and SIGTERM do: both are a `KeyboardInterrupt`, so that what was begun is saved."""

from __future__ import annotations

import os
import signal
import subprocess


def interrupt_at_sigterm() -> None:
    """For the command: SIGTERM, as `kill` and batch systems send it, is what Ctrl-C is, each time that it comes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def interrupt_once() -> None:
    """For a job: the first of the two interrupts it; while it saves, more of them change nothing.

    A terminal sends Ctrl-C to the command and its job, which then hears of it from the command as well.
    """

    def interrupted(*_: object) -> None:
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, lambda *_: None)  # not SIG_IGN, which a process started from here would inherit
        raise KeyboardInterrupt

    for kind in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(kind) is not signal.SIG_IGN:  # as `nohup` and a shell's `&` leave it
            signal.signal(kind, interrupted)


def pass_on(process: subprocess.Popen) -> None:
    """Tell a job of an interrupt, which may have reached this process alone."""
    if os.name == "posix":  # elsewhere this would end it unsaved; there Ctrl-C reaches both
        process.terminate()
