"""Answers that nobody reads."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from tests.hostile.attacks.visit import NoAnswer, Visit


async def run(visit: Visit) -> None:
    """Sixty clients ask for large answers, many in a row, and read nothing, or a byte now and then."""
    fat = {
        "task_type": "hostile_tasks.work",
        "queue": "nobody",
        "task_parameters": {"number": 0, "filling": "x" * 1_000_000},
    }
    target = "/tasks/?page_size=1000&queue=nobody"
    try:
        answer = await visit.call("POST", "/tasks/submit", fat)
        visit.note(answer, 202)
        if answer.status == 202:
            target = f"/tasks/{json.loads(answer.body)['task_id']}"
    except NoAnswer:
        visit.tally["closed"] += 1
    await visit.crowd(60, partial(_one, target), pause=0.05)


async def _one(target: str, visit: Visit) -> None:
    reads = visit.dice.random() < 0.5
    async with visit.wire(unread=True) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(8):
            if not await wire.send(visit.head("GET", target)):
                break
            await asyncio.sleep(0.5)
            if reads:
                wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
                await wire.reader.read(1)
        while not wire.writer.transport.is_closing() and visit.left:
            await asyncio.sleep(1)
            if reads and not await wire.reader.read(1):
                break
        visit.tally["closed by the server" if visit.left else "open until the end"] += 1
