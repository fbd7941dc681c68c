"""`LEDGERQ_REQUIRE_SYNC`: nobody starts where fewer standbys have each commit, and the monitor goes on comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import databases, http, wait
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Running, Stack

COMMANDS = {
    "api": ("-m", "ledgerq_api"),
    "worker": ("-m", "ledgerq_worker", "run"),
    "maintenance": ("-m", "ledgerq_worker", "maintenance"),
}


def figures(monitor: Running) -> dict[str, float]:
    lines = http.request("GET", f"{monitor.url}/metrics").body.decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("ledgerq_postgresql_")}


def test_services_start_only_where_as_many_standbys_confirm_as_are_demanded_and_the_monitor_compares(
    stack: Stack, workspace: Path, redis_database: str
):
    with Replicated(workspace) as pair:
        stack.environment |= {
            "DATABASE_URL": pair.primary.url,
            "REDIS_URL": redis_database,
            "LEDGERQ_REQUIRE_SYNC": "1",
            "LEDGERQ_MONITOR_CACHE_SECONDS": "0",
        }

        def refusal(name: str) -> str:
            running = stack.start(name, *COMMANDS[name])
            assert running.wait(60) == 2, running.log()
            [line] = [one for one in running.log().splitlines() if "LEDGERQ_REQUIRE_SYNC" in one]
            return line

        assert all("synchronous_standby_names is ''" in refusal(name) for name in COMMANDS)
        pair.primary.demand("standby1")
        databases.set_for_all(pair.primary.url, synchronous_commit="local")
        assert "synchronous_commit is 'local'" in refusal("api")
        databases.set_for_all(pair.primary.url, synchronous_commit="on")
        stack.api()
        assert stack.maintenance().says("maintenance.started")
        monitor = stack.monitor()
        found = figures(monitor)
        expected = {"synchronous_standbys": 1, "synchronous_standbys_required": 1, "standbys": 1, "timeline": 1}
        assert {name: found[f"ledgerq_postgresql_{name}"] for name in expected} == expected
        assert found['ledgerq_postgresql_replay_lag_seconds{standby="standby1"}'] >= 0
        assert found['ledgerq_postgresql_replay_lag_bytes{standby="standby1"}'] >= 0
        pair.standbys[0].kill()
        wait.until(lambda: figures(monitor).get("ledgerq_postgresql_synchronous_standbys") == 0, what=stack.logs)
        stack.close()
