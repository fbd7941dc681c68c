"""A writer that was demoted reads on. Nobody takes it for one, and no connection to it is kept for writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.api import ANYTHING

if TYPE_CHECKING:
    from pathlib import Path

    from ledgerq_shared.embedded import EmbeddedServers

ONE = {"task_type": ANYTHING}


def test_a_demoted_writer_is_not_ready_gets_no_submit_and_is_left_for_another(
    own_servers: EmbeddedServers, workspace: Path
):
    urls = own_servers.start()
    databases.migrate(urls.database_url)
    api_support.register(urls.database_url, *api_support.CATALOGUE)
    with api_support.serve(urls.database_url, urls.redis_url) as api:
        task_id = api.submit()
        assert api.get("/readyz").status == 200
        own_servers.postgres.stop()
        (workspace / "servers" / "postgres" / "standby.signal").touch()
        own_servers.postgres.start()
        assert databases.rows(urls.database_url, "SELECT pg_is_in_recovery()") == [(True,)]

        ready = api.get("/readyz")
        assert (ready.status, ready.json()["code"]) == (503, "ledger_unavailable")
        assert api.get("/health").json()["status"] == "unhealthy"
        assert api.status(task_id)["status"] == "PENDING"  # who only reads is served
        sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ledgerq-api'"
        before = set(databases.rows(urls.database_url, sessions))
        for path, body in (("/tasks/submit", ONE), ("/tasks/submit/batch", {"tasks": [ONE]})):
            answer = api.post(path, body)
            assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")
            assert "retry-after" in answer.headers
        assert not before & set(databases.rows(urls.database_url, sessions))

        databases.execute(urls.database_url, "SELECT pg_promote()")
        wait.until(lambda: api.get("/readyz").status == 200, what="it writes again")
        assert api.post("/tasks/submit", ONE).status == 202
