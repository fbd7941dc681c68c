"""What a test run makes of the surroundings in which somebody has started it, so that its processes are as on a terminal."""

from __future__ import annotations

import os
import signal

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def as_on_a_terminal() -> None:
    """Processes that are started from here on heed the signals that end them, and keep what they have compiled.

    Under ``nohup``, or in the background of a script, signals arrive ignored, and every process would inherit that. A
    handler is not inherited by a program: this process goes on ignoring them, and what it starts does not. Nor does Python
    compile our modules anew at each of some thousand starts.
    """
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
