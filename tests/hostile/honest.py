"""The honest load: submitters with an Idempotency-Key each, and followers who wait for what was submitted."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import random
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

_TYPE = "hostile_tasks.work"
#: Submits a second of each submitter, before dice.
_RATE = 10.0
_SUBMITTERS = 4
_FOLLOWERS = 4
_NEVER = 180.0


@dataclass(frozen=True)
class Sample:
    """One answer to a submit. Times are of the monotonic clock."""

    begun: float
    ended: float
    #: 0: the connection was closed or refused.
    status: int
    code: str
    #: A refusal says when to come again.
    is_polite: bool


class Honest:
    """Submits and follows for as long as the context lasts."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._address = parts.hostname, parts.port
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        self.samples: list[Sample] = []
        #: Ids of everything that was answered with 202, with the number that its result must be.
        self.accepted: dict[str, int] = {}
        #: How many were followed to their end over HTTP, and what was wrong with an end.
        self.followed = 0
        self.wrong: list[str] = []
        self._to_follow: queue.Queue[str] = queue.Queue()
        self._ended = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._submit, args=(number,), daemon=True) for number in range(_SUBMITTERS)),
            *(threading.Thread(target=self._follow, daemon=True) for _ in range(_FOLLOWERS)),
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Submit nothing new; what is on its way is repeated until it is answered."""
        self._ended.set()
        for thread in self._threads:
            thread.join(0 if error else _NEVER)
            assert error or not thread.is_alive(), "an honest client was never answered"

    def _submit(self, number: int) -> None:
        dice = random.Random(number)
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=40)) as connection:
            while not self._ended.is_set():
                wanted, key, deadline = dice.randrange(1_000_000), uuid.uuid4().hex, time.monotonic() + _NEVER
                while not self._is_accepted(connection, wanted, key) and time.monotonic() < deadline:
                    # What a client does that honours Retry-After, but impatient.
                    time.sleep(0.25)
                self._ended.wait(dice.uniform(0, 2 / _RATE))

    def _is_accepted(self, connection: http.client.HTTPConnection, number: int, key: str) -> bool:
        body = json.dumps({"task_type": _TYPE, "task_parameters": {"number": number}})
        begun = time.monotonic()
        try:
            connection.request("POST", "/tasks/submit", body, {**self._headers, "idempotency-key": key})
            answer = connection.getresponse()
            found = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            self.samples.append(Sample(begun, time.monotonic(), 0, "", is_polite=False))
            return False
        polite = answer.getheader("retry-after") is not None
        self.samples.append(Sample(begun, time.monotonic(), answer.status, found.get("code", ""), is_polite=polite))
        if answer.status != 202:
            return False
        self.accepted[found["task_id"]] = number
        if self._to_follow.qsize() < 2:  # of those that they have no time for nobody waits
            self._to_follow.put(found["task_id"])
        return True

    def _follow(self) -> None:
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=60)) as connection:
            while not self._ended.is_set():
                with contextlib.suppress(queue.Empty):
                    self._follow_one(connection, self._to_follow.get(timeout=0.5))

    def _follow_one(self, connection: http.client.HTTPConnection, task_id: str) -> None:
        deadline = time.monotonic() + _NEVER
        while time.monotonic() < deadline:
            found = self._status(connection, task_id)
            if found is None:
                time.sleep(0.5)
            elif found["status"] == "SUCCESS" and found["result"] == self.accepted[task_id]:
                self.followed += 1
                return
            elif found["status"] not in ("PENDING", "STARTED"):
                break
        self.wrong.append(f"{task_id}: {found}")

    def _status(self, connection: http.client.HTTPConnection, task_id: str) -> Any:
        try:
            connection.request("GET", f"/tasks/{task_id}/status", headers={**self._headers, "prefer": "wait=5"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        if answer.status not in (200, 503):
            self.wrong.append(f"{task_id}: {answer.status} {text[:100]!r}")
        return json.loads(text) if answer.status == 200 else None
