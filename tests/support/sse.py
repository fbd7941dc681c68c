"""A client of Server-Sent Events that reads one stream in a thread."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tests.support import wait

if TYPE_CHECKING:
    from types import TracebackType


@dataclass
class EventStream:
    """Use as a context manager; leaving it hangs up."""

    url: str
    last_event_id: int | None = None
    sent: dict[str, str] = field(default_factory=dict)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    #: ``(id, event, data)`` in the order received.
    events: list[tuple[int, str, Any]] = field(default_factory=list)
    is_over: bool = False

    def __enter__(self) -> Self:
        """Connect and begin to read."""
        parts = urlsplit(self.url)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        headers = {} if self.last_event_id is None else {"Last-Event-ID": str(self.last_event_id)}
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("GET", parts.path, headers={**headers, **self.sent})
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):  # the server was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._answer.close()
        self._connection.close()

    def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [kind for _, kind, _ in self.events]

    def until(self, kind: str) -> None:
        """Wait for an event of this kind."""
        wait.until(lambda: kind in self.kinds(), 30, what=lambda: f"{kind}: {self.kinds()}")

    def until_over(self) -> None:
        """Wait for the end of the stream."""
        wait.until(lambda: self.is_over, 30, what=lambda: f"the end: {self.kinds()}")

    def _read(self) -> None:
        entry: dict[str, str] = {}
        try:
            for raw in self._answer:
                line = raw.decode().rstrip("\n")
                name, _, value = line.partition(": ")
                if line:
                    entry[name] = value
                    continue
                if "data" in entry:
                    self.events.append((int(entry["id"]), entry["event"], json.loads(entry["data"])))
                entry = {}
            self.is_over = True
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            return  # hung up
