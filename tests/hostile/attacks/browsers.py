"""Pages of strangers in an honest person's browser: names that lead here, foreign origins, forms."""

from __future__ import annotations

import asyncio

from tests.hostile.attacks.visit import Visit

_HOSTS = ("rebind.evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "evil.example@127.0.0.1")
_TARGETS = ("/tasks/", "/queues", "/task-types", "/workers", "/health", "/metrics")


async def run(visit: Visit) -> None:
    """All of them, again and again."""
    await visit.crowd(4, _one)


async def _one(visit: Visit) -> None:
    body = {"task_type": "hostile_tasks.work", "task_parameters": {"number": -1}}
    # A page knows no key; where none is needed, only our names are served.
    refused = (401,) if visit.key else (421, 403, 400)
    host = visit.dice.choice(_HOSTS)
    visit.note(await visit.call("GET", visit.dice.choice(_TARGETS), host=host, key=""), *refused)
    visit.note(await visit.call("POST", "/tasks/submit", body, host=host, key=""), *refused)
    # With the browser's own cookies or a proxy's login, that is: with the key.
    origin = f"Origin: http://{visit.dice.choice(_HOSTS[:3])}"
    visit.note(await visit.call("POST", "/tasks/submit", body, origin), 403)
    visit.note(await visit.call("POST", "/queues/default/pause", {}, origin), 403)
    form = "Content-Type: text/plain"
    async with visit.wire() as wire:
        await wire.send(visit.head("POST", "/tasks/submit", form, "Content-Length: 2", origin) + b"{}")
        visit.note(await wire.answer(), 403, 415)
    await asyncio.sleep(0.2)
