"""What a node's agent and a task's process agree on about a task that is ended by a signal.

The agent sends the signal, and :mod:`ledgerq_worker.slot.terminating` is what the process does then. It imports nothing of
Celery, because the agent does not.
"""

from __future__ import annotations

import json
import signal

#: As :data:`ledgerq_worker.slot.limits.SIGNAL`.
SIGNAL: int = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2


def data_of_end(number: int | None) -> str:
    """The data of the event with which a terminated task ends, as JSON; ``number`` is the signal that was asked for, if
    one was.
    """
    data: dict[str, object] = {"reason": "cancelled", "terminated": True}
    return json.dumps(data if number is None else {**data, "signal": number}, separators=(",", ":"))
