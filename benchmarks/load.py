"""An HTTP client that costs little: `python -m benchmarks.load` reads one JSON object from stdin and prints one.

In: `host`, `port`, `connections`, `seconds`, `requests` (list of complete HTTP/1.1 requests as texts, taken in turn).
Out: `answered`, `failed` (not 2xx), `seconds`, `p50`, `p99` (milliseconds).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

import uvloop


class _Client(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, requests: itertools.cycle[bytes], until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._until, self._done = requests, until, done
        self._buffer = b""
        self._sent_at = 0.0
        self.times: list[float] = []
        self.failed = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        now = time.perf_counter()
        self.times.append(now - self._sent_at)
        self.failed += head[9:10] != b"2"
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


def _length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


async def _run(asked: dict[str, object]) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    requests = itertools.cycle([str(text).encode() for text in asked["requests"]])  # type: ignore[attr-defined]
    begun = time.perf_counter()
    until = begun + float(str(asked["seconds"]))
    clients, ends = [], []
    for _ in range(int(str(asked["connections"]))):
        done: asyncio.Future[None] = loop.create_future()
        client = _Client(requests, until, done)
        await loop.create_connection(lambda client=client: client, str(asked["host"]), int(str(asked["port"])))  # type: ignore[misc]
        clients.append(client)
        ends.append(done)
    await asyncio.gather(*ends)
    times = sorted(second for client in clients for second in client.times)
    return {
        "answered": len(times),
        "failed": sum(client.failed for client in clients),
        "seconds": time.perf_counter() - begun,
        "p50": round(times[len(times) // 2] * 1e3, 2),
        "p99": round(times[len(times) * 99 // 100] * 1e3, 2),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(json.load(sys.stdin)))))
