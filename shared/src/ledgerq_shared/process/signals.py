"""What signals do in a service that has handlers for SIGTERM and SIGINT only.

Supervisors send different signals (SIGTERM, SIGHUP, SIGQUIT), and some send them to a whole group of processes. Each
signal that ends a service ends it in order, as SIGTERM does; signals that mean something to other programs do not kill
it.
"""

from __future__ import annotations

import signal


def treat_as_sigterm() -> None:
    """SIGHUP and SIGQUIT do what SIGTERM does at that moment; SIGUSR1 and SIGUSR2 do nothing.

    To be called in the main thread. A signal that was ignored when the process started (``nohup``) stays ignored.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda *_: None)
