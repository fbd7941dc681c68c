"""What becomes of the stores and of their disk, and from when to when it could be felt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING

from tests.support import http, wait

if TYPE_CHECKING:
    from tests.hostile.targets import Store, Target

#: Seconds within which the API must be ready after what was wrong has been put right.
READY_WITHIN = 30.0


@dataclass(frozen=True)
class Outage:
    """One fault. Times are of the monotonic clock."""

    #: What went away: PostgreSQL, Redis, or the disk under both.
    what: str
    how: str
    begun: float
    #: When it was put right.
    righted: float
    #: When the API was ready again.
    ready: float


def _stop(store: Store, seconds: float) -> None:
    store.stop()
    time.sleep(seconds)
    store.start()


def _kill(store: Store, seconds: float) -> None:
    store.kill()
    time.sleep(seconds)
    store.start()


def _freeze(store: Store, seconds: float) -> None:
    store.freeze()
    try:
        time.sleep(seconds)
    finally:
        store.thaw()


_WAYS: dict[str, Callable[[Store, float], None]] = {"stopped": _stop, "killed": _kill, "frozen": _freeze}


def names(target: Target) -> list[tuple[str, str]]:
    """What can be done here: what goes away, and how."""
    found = [(store, way) for store in target.stores for way in _WAYS]
    return found if target.disk.missing else [*found, ("the disk", "full")]


def strike(target: Target, what: str, how: str, seconds: float) -> Outage:
    """Let something be away for so long; return when the API is ready again."""
    begun = time.monotonic()
    if what == "the disk":
        target.disk.fill()
        time.sleep(seconds * 2)
        target.disk.free()
        for store in target.stores.values():  # it may have given up, as PostgreSQL does when it cannot write its log
            store.start()
    else:
        _WAYS[how](target.stores[what], seconds)
    righted = time.monotonic()
    ready(target, f"after {what} was {how}")
    return Outage(what, how, begun, righted, time.monotonic())


def ready(target: Target, when: str) -> None:
    """Wait until the API is ready; if it does not become so, say what it answered instead."""
    answers: list[str] = []

    def is_ready() -> bool:
        begun = time.monotonic()
        try:
            answer = http.request("GET", f"{target.url}/readyz", timeout=5)
            answers.append(f"{answer.status} {answer.body[:200]!r} after {time.monotonic() - begun:.1f} s")
        except (OSError, HTTPException) as error:
            answers.append(f"{error!r} after {time.monotonic() - begun:.1f} s")
        return answers[-1].startswith("200")

    wait.until(is_ready, READY_WITHIN, interval=0.05, what=lambda: f"ready {when}; {answers[-20:]}; {target.logs()}")
