"""Heads: that come a byte a second, that never end, that are huge."""

from __future__ import annotations

import asyncio
import time

from tests.hostile.attacks.visit import LONGEST, Visit

_MIB = 1024 * 1024


async def slow(visit: Visit) -> None:
    """Two hundred connections whose heads come a byte a second."""
    await visit.crowd(200, _slow_one, pause=0.005)


async def huge(visit: Visit) -> None:
    """Headers, header lines, paths and queries that never end."""
    await visit.crowd(8, _huge_one)


async def _slow_one(visit: Visit) -> None:
    begun = time.monotonic()
    async with visit.wire() as wire:
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        answer = asyncio.ensure_future(wire.answer())
        try:
            while not answer.done():
                if time.monotonic() - begun > LONGEST:
                    visit.tally["WRONG a head may take as long as it likes"] += 1
                    return
                await wire.send(b"a")
                await asyncio.wait([answer], timeout=1)
            visit.note(answer.result(), 408)
        finally:
            answer.cancel()


async def _huge_one(visit: Visit) -> None:
    begin, piece = visit.dice.choice(
        [
            (b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Endless: ", b"x" * 65536),
            (b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"x-a: b\r\n" * 8192),
            (b"GET /", b"x" * 65536),
            (b"GET /tasks/?tag=", b"x" * 65536),
        ]
    )
    async with visit.wire() as wire:
        await wire.send(begin)
        answer = asyncio.ensure_future(wire.answer())
        try:
            for _ in range(64 * _MIB // len(piece)):
                if answer.done() or not await wire.send(piece):
                    break
                await asyncio.sleep(0)
            else:
                visit.tally["WRONG a head may be as large as it likes"] += 1
                return
            visit.note(await answer, 431, 414)
        finally:
            answer.cancel()
    await asyncio.sleep(1)
