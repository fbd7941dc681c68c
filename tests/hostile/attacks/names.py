"""One submitter's queues: 40,000 names."""

from __future__ import annotations

import asyncio

from tests.hostile.attacks.visit import NoAnswer, Visit

_NAMES = 40_000
_BATCH = 250


async def run(visit: Visit) -> None:
    """Submit to all of them, and list them meanwhile. Later stays use a few of the same names again."""
    await asyncio.gather(_submit(visit), _list(visit))


async def _submit(visit: Visit) -> None:
    most = _NAMES if visit.round == 0 else 5 * _BATCH
    pause = visit.seconds / (most / _BATCH) / 2
    for first in range(0, most, _BATCH):
        tasks = [
            {"task_type": "hostile_tasks.work", "task_parameters": {"number": -2}, "queue": f"name-{first + number}"}
            for number in range(_BATCH)
        ]
        if not visit.left:
            break
        try:
            visit.note(await visit.call("POST", "/tasks/submit/batch", {"tasks": tasks}), 202, 422, 409, 403)
        except NoAnswer:
            visit.tally["closed"] += 1
        await asyncio.sleep(pause)


async def _list(visit: Visit) -> None:
    while visit.left:
        try:
            visit.note(await visit.call("GET", "/queues"), 200)
        except NoAnswer:
            visit.tally["closed"] += 1
        await asyncio.sleep(1)
