"""Thousands of streams of one task that does not end."""

from __future__ import annotations

import asyncio
import json

from tests.hostile.attacks.visit import NoAnswer, Visit, Wire

_STREAMS = 5000
#: How many a second are opened: a flood of requests is another attack, against which a proxy's limits help.
_A_SECOND = 250


async def run(visit: Visit) -> None:
    """Open 5,000 streams, hold them all, and read what comes."""
    listed = await _waiting_task(visit)
    async with asyncio.TaskGroup() as group:
        for number in range(_STREAMS):
            # They also go one after another: what all do at once is the same flood.
            group.create_task(_one(visit, listed, number / _A_SECOND))
            if number % 20 == 19:
                await asyncio.sleep(20 / _A_SECOND)
            if not visit.left:
                break
    visit.tally["most at once"] = visit.tally.pop("200", 0)


async def _waiting_task(visit: Visit) -> str:
    while visit.left:
        try:
            answer = await visit.call("GET", "/tasks/?page_size=1&queue=nobody")
            if answer.status == 200:
                return str(json.loads(answer.body)["tasks"][0]["task_id"])
        except NoAnswer:
            pass
        await asyncio.sleep(0.2)
    raise AssertionError("no list of tasks was answered for as long as this attack stays")


async def _one(visit: Visit, task_id: str, later: float) -> None:
    try:
        async with visit.wire() as wire:
            await wire.send(visit.head("GET", f"/tasks/{task_id}/stream"))
            await _hold(visit, wire, later)
    except (NoAnswer, OSError):
        visit.tally["closed"] += 1


async def _hold(visit: Visit, wire: Wire, later: float) -> None:
    line = await wire.reader.readline()
    if b" 200 " not in line:
        visit.tally[line.decode().strip()[9:] or "closed"] += 1
        return
    visit.tally["200"] += 1
    try:
        async with asyncio.timeout(visit.left + later):
            while await wire.reader.read(65536):
                pass
        visit.tally["ended by the server"] += 1
    except TimeoutError:
        pass
