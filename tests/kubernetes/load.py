"""Clients that submit all the time and never give up, and the account that is taken afterwards, all of it by the API."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections import Counter
from typing import Any, Self

from tests.support import http as calls
from tests.support import wait

FINAL = {"SUCCESS", "FAILURE", "REVOKED"}
_ENDS = {"succeeded", "failed", "revoked"}
_TASK_TYPE = "clients.celery.example_tasks.long_running"
#: Up to where primes are counted: less than a tenth of a second of work, or about a second.
SHORT, LONG = 2_000_000, 40_000_000


class Api:
    """The API at an address, with a key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._headers = {"authorization": f"Bearer {key}"}

    def call(self, method: str, path: str, body: object = None, **headers: str) -> calls.Response:
        """One call; raises ``OSError`` or ``HTTPException`` where nobody answers."""
        return calls.request(method, self.url + path, body, headers=self._headers | headers, timeout=20)

    def get(self, path: str) -> Any:
        """The body of an answer 200, which may take some tries while pods come and go."""
        return wait.until(lambda: self._got(path), 60, interval=0.2, what=path)

    def submit(self, *, queue: str = "default", limit: int = SHORT) -> str:
        """Submit until it is accepted; the id. A repeated submit is the same task: it has a key of its own."""
        body = {"task_type": _TASK_TYPE, "task_parameters": {"limit": limit}, "queue": queue}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = wait.until(lambda: self._accepted(body, headers), 120, interval=0.3, what="submit")
        return str(answer["task_id"])

    def until_final(self, ids: list[str], timeout: float = 180) -> dict[str, str]:
        """The state of each task once all have ended."""
        states: dict[str, str] = {}

        def look() -> bool:
            for task_id in ids:
                if states.get(task_id) not in FINAL:
                    states[task_id] = self.get(f"/tasks/{task_id}/status")["status"]
            return all(state in FINAL for state in states.values())

        wait.until(look, timeout, interval=1, what=lambda: self._unfinished(states))
        return states

    def check(self, ids: list[str]) -> None:
        """Every accepted task has ended well, once, and there are no others like it."""
        assert len(set(ids)) == len(ids)
        states = self.until_final(ids)
        assert Counter(states.values()) == {"SUCCESS": len(ids)}
        for task_id in ids:
            events = self.get(f"/tasks/{task_id}/events?page_size=100")["events"]
            kinds = [one["kind"] for one in events]
            assert sum(kind in _ENDS for kind in kinds) == 1, (task_id, kinds)
            assert kinds[0] == "submitted", (task_id, kinds)

    def count(self) -> int:
        """How many tasks of the load the ledger has."""
        found = self.get("/tasks/?page_size=1&task_type=long_running")
        return int(found["total_count"])

    def _unfinished(self, states: dict[str, str]) -> str:
        open_ones = [task_id for task_id, state in states.items() if state not in FINAL]
        explained = [self.call("GET", f"/tasks/{task_id}/explain").body.decode() for task_id in open_ones[:3]]
        return f"{len(open_ones)} have not ended: {explained}"

    def _got(self, path: str) -> Any:
        try:
            answer = self.call("GET", path)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status >= 500:
            return None
        assert answer.status == 200, answer.body
        return answer.json()

    def _accepted(self, body: dict[str, Any], headers: dict[str, str]) -> Any:
        try:
            answer = self.call("POST", "/tasks/submit", body, **headers)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status >= 500 or answer.status == 409:  # the first try with this key is still being answered
            return None
        assert answer.status == 202, answer.body
        return answer.json()


class Load:
    """Clients that submit until the block ends; ``ids`` are what they were promised."""

    def __init__(self, api: Api, *, clients: int = 2, every: float = 0.3) -> None:
        self._api = api
        self._every = every
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._submit) for _ in range(clients)]
        #: What the clients were promised. All of it is looked at again after every later disturbance.
        self.ids: list[str] = []
        self._lock = threading.Lock()
        self._accepted_at = time.monotonic()
        #: The longest time in which nothing was accepted, in seconds.
        self.longest = 0.0
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def begin_anew(self) -> None:
        """Forget the longest time so far."""
        with self._lock:
            self._accepted_at, self.longest = time.monotonic(), 0.0

    def more(self, number: int, timeout: float = 120) -> None:
        """Wait until as many more tasks were accepted."""
        wanted = len(self.ids) + number
        wait.until(lambda: len(self.ids) >= wanted or self.errors, timeout, interval=0.2, what="accepted tasks")

    def _submit(self) -> None:
        try:
            while not self._ended.is_set():
                begun = time.monotonic()
                self._was_accepted(self._api.submit())
                self._ended.wait(max(0.0, self._every - (time.monotonic() - begun)))
        except BaseException as error:
            self.errors.append(error)

    def _was_accepted(self, task_id: str) -> None:
        with self._lock:
            now = time.monotonic()
            self.longest, self._accepted_at = max(self.longest, now - self._accepted_at), now
            self.ids.append(task_id)
