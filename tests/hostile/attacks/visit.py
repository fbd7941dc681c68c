"""What an attack knows, and raw HTTP: what a polite client would not send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

#: More seconds than any bound of the server has: who is still served by then was never bounded.
LONGEST = 80.0


@dataclass(frozen=True)
class Answer:
    """One answer; ``code`` is that of its problem, ``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of the problem; empty without one."""
        with contextlib.suppress(ValueError):
            return str(json.loads(self.body).get("code", ""))
        return ""


class NoAnswer(Exception):
    """The connection was closed or reset before an answer was there."""


@dataclass
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Send; false when the server has closed."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            return False
        return True

    async def answer(self) -> Answer:
        """The next answer. Raises :class:`NoAnswer`."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            raise NoAnswer from error
        return Answer(int(lines[0].split()[1]), headers, body)


@dataclass
class Visit:
    """One attack's stay. ``key`` is empty where nobody needs one; ``round`` counts the attack's stays from 0."""

    host: str
    port: int
    key: str
    seconds: float
    dice: random.Random
    round: int
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """It begins now."""
        self._until = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds until the attack is to end."""
        return max(0.0, self._until - time.monotonic())

    @contextlib.asynccontextmanager
    async def wire(self, *, unread: bool = False) -> AsyncIterator[Wire]:
        """Connect; the connection ends with the block. With ``unread`` nothing is read ahead of what is asked for."""
        # The smallest window that the system gives, so that what is not read stays on the server's side.
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1024 if unread else 1 << 20)
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()

    def head(self, method: str, target: str, *lines: str, host: str = "127.0.0.1", key: str | None = None) -> bytes:
        """A request's head, with the attacker's own key unless another (or none: the empty text) is given."""
        sent = self.key if key is None else key
        return "\r\n".join(
            [
                f"{method} {target} HTTP/1.1",
                f"Host: {host}",
                *([f"Authorization: Bearer {sent}"] if sent else []),
                *lines,
                "",
                "",
            ]
        ).encode()

    async def call(self, method: str, target: str, body: object = None, *lines: str, **options: str) -> Answer:
        """One request over a connection of its own. Raises :class:`NoAnswer`."""
        data = b"" if body is None else json.dumps(body).encode()
        declared = [f"Content-Length: {len(data)}", "Content-Type: application/json"] if data else []
        try:
            async with self.wire() as wire:
                await wire.send(self.head(method, target, *declared, *lines, **options) + data)
                return await asyncio.wait_for(wire.answer(), LONGEST)
        except OSError as error:
            raise NoAnswer from error

    def note(self, answer: Answer, *expected: int) -> None:
        """Count an answer. A refusal for want of room or of a store is right if it says when to come again."""
        name = f"{answer.status} {answer.code}".strip()
        is_refusal = answer.status in (429, 503)
        right = "retry-after" in answer.headers if is_refusal else answer.status in expected
        self.tally[name if right else f"WRONG {name} {answer.body[:120]!r}"] += 1

    async def crowd(self, size: int, one: Callable[[Visit], Awaitable[None]], *, pause: float = 0.0) -> None:
        """So many at once, each again and again until the attack ends; begun ``pause`` seconds apart."""

        async def again() -> None:
            while self.left:
                try:
                    async with asyncio.timeout(self.left + 1):
                        await one(self)
                except (NoAnswer, OSError):
                    self.tally["closed"] += 1
                    await asyncio.sleep(0.2)
                except TimeoutError:
                    self.tally["open until the end"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(size):
                group.create_task(again())
                await asyncio.sleep(pause)
