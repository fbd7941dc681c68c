"""The API inside the test's process, behind a real HTTP server on a free port."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import uvicorn

from ledgerq_api.app import Services, build_services, create_app
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.catalogue import CatalogueEntry, register_task_types
from tests.support import http, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

PROCESS_DOCUMENT = "clients.celery.example_tasks.process_document"
ANYTHING = "demo.anything"
OTHER = "other.place.anything"

_DOCUMENT_SCHEMA = {
    "type": "object",
    "properties": {"document_id": {"type": "string"}, "options": {"type": "object"}},
    "required": ["document_id"],
    "additionalProperties": False,
}

CATALOGUE = (
    CatalogueEntry(
        PROCESS_DOCUMENT,
        "Read a document.",
        json.dumps(_DOCUMENT_SCHEMA),
        "documents",
        json.dumps({"max_retries": 3, "priority": 7}),
    ),
    CatalogueEntry(ANYTHING, "", json.dumps({"type": "object"}), "default", "{}"),
    CatalogueEntry(OTHER, "", json.dumps({"type": "object"}), "default", "{}"),
)


@dataclass(frozen=True)
class Api:
    """A running API and short ways to call it."""

    url: str
    database_url: str
    app: FastAPI
    services: Services

    def get(self, path: str, /, *, headers: dict[str, str] | None = None, **query: object) -> http.Response:
        """GET with a query string."""
        target = f"{path}?{urlencode(query)}" if query else path
        return http.request("GET", self.url + target, headers=headers)

    def post(
        self, path: str, body: object, *, headers: dict[str, str] | None = None, timeout: float = 30.0
    ) -> http.Response:
        """POST; bytes are sent as they are, everything else as JSON."""
        return http.request("POST", self.url + path, body, headers=headers, timeout=timeout)

    def submit(self, task_type: str = ANYTHING, /, parameters: object = None, **more: object) -> str:
        """Submit a task that must be accepted; return its id."""
        answer = self.post("/tasks/submit", {"task_type": task_type, "task_parameters": parameters or {}, **more})
        assert answer.status == 202, answer.body
        return str(answer.json()["task_id"])

    def status(self, task_id: str) -> Any:
        """The status of a task that must exist."""
        answer = self.get(f"/tasks/{task_id}/status")
        assert answer.status == 200, answer.body
        return answer.json()


def register(database_url: str, *entries: CatalogueEntry) -> None:
    """Put task types into the catalogue, as ``ledgerq-worker register`` does."""
    database = Database(database_url, application_name="test")
    with database.transaction() as cursor:
        execute(cursor, register_task_types(entries))
    database.close()


@contextmanager
def serve(
    database_url: str,
    redis_url: str,
    *,
    replica_url: str | None = None,
    max_lag: float = 10.0,
    debug: bool = False,
    **settings: object,
) -> Iterator[Api]:
    """Run the API in a thread; ``settings`` are fields of ``ApiSettings``; ``debug``: statements are logged."""
    stores = StoreSettings(
        database_url=database_url,
        database_replica_url=replica_url,
        redis_url=redis_url,
        ledgerq_replica_max_lag=max_lag,
        _env_file=None,
    )
    services = build_services(stores, ApiSettings(**settings), debug=debug)  # type: ignore[arg-type]
    app = create_app(services, ApiSettings(**settings))  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, access_log=False, log_config=None, ws="none", proxy_headers=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait.until(lambda: server.started, 30, what="the API has started")
        yield Api(f"http://127.0.0.1:{listener.getsockname()[1]}", database_url, app, services)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive(), "the API did not stop"
