"""Submits over HTTP, with an Idempotency-Key each, until somebody answers: what a careful client does in a fault."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from tests.support import http as client

if TYPE_CHECKING:
    from types import TracebackType

_PAUSE = 0.05


class Load:
    """Threads that submit tasks to one API for as long as the context lasts.

    Args:
        url: the API; it may be away for a while, then each submit is repeated under its key.
        body: what to submit.
        clients: how many threads.
        pause: between two submits of a thread, in seconds.
    """

    def __init__(self, url: str, body: dict[str, Any], *, clients: int = 2, pause: float = 0.01) -> None:
        self.url = url
        self._body = body
        self._pause = pause
        #: Ids of everything that was answered with 202.
        self.accepted: set[str] = set()
        #: All answers by status; 0: nobody listened.
        self.answers: Counter[int] = Counter()
        #: 503s that did not say when to come again.
        self.rude = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._submit, daemon=True) for _ in range(clients)]

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
            thread.join(90)
            assert error or not thread.is_alive(), f"a submit was never answered: {self.answers}"

    def _submit(self) -> None:
        while not self._ended.is_set():
            key, deadline = uuid.uuid4().hex, time.monotonic() + 80
            while not self._is_accepted(key) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            self._ended.wait(self._pause)

    def _is_accepted(self, key: str) -> bool:
        try:
            answer = client.request(
                "POST", f"{self.url}/tasks/submit", self._body, headers={"idempotency-key": key}, timeout=20
            )
        except (OSError, http.client.HTTPException):
            self.answers[0] += 1
            return False
        self.answers[answer.status] += 1
        if answer.status == 503 and "retry-after" not in answer.headers:
            self.rude += 1
        if answer.status == 202:
            self.accepted.add(answer.json()["task_id"])
        return answer.status == 202
