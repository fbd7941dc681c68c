"""What signals do in a service that nothing but SIGTERM and SIGINT is meant for.

Supervisors differ in what they send (SIGTERM, SIGHUP, SIGQUIT), and some send it to a whole group of processes. Whatever
ends a service ends it in order, as SIGTERM does; what is meant for other programs does not kill it.
"""

from __future__ import annotations

import signal


def treat_as_sigterm() -> None:
    """SIGHUP and SIGQUIT do what SIGTERM does at that moment; SIGUSR1 and SIGUSR2 do nothing.

    To be called in the main thread. A signal that whoever started the process had it ignore (``nohup``) stays ignored.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda *_: None)
