"""The attacks by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.hostile.attacks import bodies, browsers, heads, lists, names, streams, unread
from tests.hostile.attacks.visit import Visit

ATTACKS: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "slow heads": heads.slow,
    "huge heads": heads.huge,
    "stalled bodies": bodies.stalled,
    "huge bodies": bodies.huge,
    "unread answers": unread.run,
    "browsers": browsers.run,
    "5,000 streams": streams.run,
    "heavy lists": lists.run,
    "40,000 queue names": names.run,
}
