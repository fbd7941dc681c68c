"""Bodies: that stall, that are huge, that are many at once."""

from __future__ import annotations

import asyncio
import json

from tests.hostile.attacks.visit import NoAnswer, Visit

_MIB = 1024 * 1024
_JSON = "Content-Type: application/json"


async def stalled(visit: Visit) -> None:
    """Fifty batches of 16 MiB that stop at 15; half of them without a key."""
    await visit.crowd(50, _stalled_one, pause=0.05)


async def huge(visit: Visit) -> None:
    """Bodies above every bound, and now and then eight batches of 15 MiB at once, which break a rule at their end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(visit.crowd(2, _too_large))
        group.create_task(visit.crowd(1, _eight_large))


async def _stalled_one(visit: Visit) -> None:
    key = visit.key if visit.dice.random() < 0.5 else ""
    async with visit.wire() as wire:
        await wire.send(visit.head("POST", "/tasks/submit/batch", _JSON, f"Content-Length: {16 * _MIB}", key=key))
        answer = asyncio.ensure_future(wire.answer())
        try:
            for _ in range(15):
                if answer.done() or not await wire.send(b" " * _MIB):
                    break
                await asyncio.sleep(0.1)
            visit.note(await answer, 401, 408)
        finally:
            answer.cancel()
    await asyncio.sleep(5)


async def _too_large(visit: Visit) -> None:
    """The answer must arrive although the whole body is sent first: no reset."""
    path, status = visit.dice.choice([("/tasks/submit", 413), ("/tasks/submit/batch", 413), ("/queues/x", 413)])
    method = "PUT" if path.startswith("/queues") else "POST"
    size = visit.dice.choice([17, 24]) * _MIB
    async with visit.wire() as wire:
        await wire.send(visit.head(method, path, _JSON, f"Content-Length: {size}"))
        answer = asyncio.ensure_future(wire.answer())
        try:
            for _ in range(size // _MIB):
                if not await wire.send(b" " * _MIB):
                    break
                await asyncio.sleep(0.05)
            visit.note(await answer, status, 403)
        except NoAnswer:
            visit.tally["WRONG reset before the 413 could be read"] += 1
        finally:
            answer.cancel()
    await asyncio.sleep(1)


async def _eight_large(visit: Visit) -> None:
    filling = "x" * (900 * 1024)
    tasks = [{"task_type": "hostile_tasks.work", "task_parameters": {"number": 0, "filling": filling}}] * 16
    body = json.dumps({"tasks": [*tasks, {"task_type": "hostile_tasks.unknown"}]}).encode()

    async def one() -> None:
        try:
            async with visit.wire() as wire:
                await wire.send(visit.head("POST", "/tasks/submit/batch", _JSON, f"Content-Length: {len(body)}") + body)
                visit.note(await wire.answer(), 422)
        except (NoAnswer, OSError):
            visit.tally["closed"] += 1

    await asyncio.gather(*(one() for _ in range(8)))
    await asyncio.sleep(20)
