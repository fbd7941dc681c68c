"""Each alert is caused on a running stack, and fires in a real Prometheus (`make test-alerts`; not in `make test`).

The rules are the delivered ones; only their patience is shortened: `for`, a threshold of five minutes, six hours of growth.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.chaos.support import nodes
from tests.support import databases, http, wait
from tests.support.observed import Observed
from tests.support.prometheus import ALERTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.prometheus import Prometheus

_PATIENCE = "2s"
#: Times that a test cannot wait for, by alert: what the rule says, and what the test makes of it.
_SOONER = {
    "LedgerQOldestTaskTooOld": ("> 300", "> 3"),
    # Over six hours, a growth of some seconds would not be noticed beside the rest of the test's time.
    "LedgerQDiskGrowth": ("[6h]", "[30s]"),
}
_BUDGET = 100 * 2**30


def impatient_rules() -> str:
    """The delivered rules in one file."""
    groups = []
    for path in sorted(ALERTS.glob("*.yaml")):
        [group] = yaml.safe_load(path.read_text("utf-8"))["groups"]
        [rule] = group["rules"]
        if rule.get("for", "0m") != "0m":
            rule["for"] = _PATIENCE
        if rule["alert"] in _SOONER:
            slow, quick = _SOONER[rule["alert"]]
            assert rule["expr"].count(slow) == 1
            rule["expr"] = rule["expr"].replace(slow, quick)
        groups.append(group)
    return yaml.safe_dump({"groups": groups})


class Fire:
    """Waits for alerts and prints a line for each that fires."""

    def __init__(self, prometheus: Prometheus, say: Callable[[str], None]) -> None:
        self._prometheus = prometheus
        self._say = say
        self.seen: set[str] = set()

    def by(self, cause: str, *alerts: str, within: float = 60.0) -> None:
        begun = time.monotonic()
        for alert in alerts:
            fired = wait.until(
                lambda alert=alert: self._prometheus.firing().get(alert),
                within,
                interval=0.2,
                what=lambda alert=alert: f"{alert} after: {cause}; firing: {list(self._prometheus.firing())}",
            )
            seconds, summary = time.monotonic() - begun, fired["annotations"]["summary"]
            self._say(f"fired: {alert:26} {seconds:5.1f} s after: {cause} ({summary})")
            self.seen.add(alert)

    def out(self, *alerts: str) -> None:
        wait.until(
            lambda: not self._prometheus.firing().keys() & set(alerts),
            60,
            interval=0.2,
            what=lambda: f"{alerts} over; firing: {list(self._prometheus.firing())}",
        )


@pytest.mark.timeout(1200)
def test_each_alert_fires_when_it_is_caused(bare_stack, own_servers, capsys):
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)  # noqa: T201

    urls = own_servers.start()
    bare_stack.environment.update(
        DATABASE_URL=urls.database_url,
        REDIS_URL=urls.redis_url,
        LEDGERQ_LEASE_SECONDS="2",
        LEDGERQ_QUARANTINE_AFTER="1",
        LEDGERQ_MONITOR_DISK_BUDGET=str(_BUDGET),
    )
    databases.migrate(urls.database_url)
    observed = Observed(bare_stack)
    bare_stack.register()
    prometheus = observed.prometheus(rules=impatient_rules())
    prometheus.start()
    try:
        fire = Fire(prometheus, say)
        _cause_all(observed, own_servers, urls, fire)
    finally:
        prometheus.stop()
    delivered = set(re.findall(r"alert: (\w+)", "".join(path.read_text("utf-8") for path in ALERTS.glob("*.yaml"))))
    assert fire.seen == delivered
    say(f"all {len(delivered)} alerts fired")


def _cause_all(observed, servers, urls, fire) -> None:
    monitor = observed.monitor(LEDGERQ_REQUIRE_SYNC="1")
    observed.api()
    wait.until(lambda: http.answers(f"{observed.url}/readyz"), 60, what=observed.stack.logs)
    observed.submit("add", x=1, y=2)
    fire.by("a standby is demanded, and there is none", "LedgerQNotSynchronous")
    fire.by("no maintenance process was started", "LedgerQLeaderMissing")
    databases.execute(
        urls.database_url,
        "INSERT INTO went_back (noticed_at, lost_since, lost, sent_again, noticed_by) VALUES (now(), now(), 1, 1, 'test')",
    )
    fire.by("an API process missed an accepted task", "LedgerQLedgerWentBack")
    fire.by("a task was submitted, no worker was started", "LedgerQNoWorkers", "LedgerQOldestTaskTooOld")
    maintenance, worker = observed.maintenance(), observed.worker()
    fire.out("LedgerQLeaderMissing", "LedgerQNoWorkers", "LedgerQOldestTaskTooOld")

    observed.submit("fails", number=20)
    fire.by("20 tasks failed", "LedgerQFailureRatioHigh")
    observed.submit("kills_its_process")
    fire.by("a task killed its pool process", "LedgerQTaskQuarantined")

    databases.execute(urls.database_url, "CREATE TABLE filler AS SELECT repeat(md5(n::text), 30) FROM "
                                         "generate_series(1, 80000) AS n")  # fmt: skip
    fire.by("80 MB were written within seconds", "LedgerQDiskGrowth")

    servers.valkey.stop()
    observed.submit("add", x=1, y=2)  # API and maintenance themselves report that nobody answers them
    fire.by("Redis was stopped", "LedgerQRedisAway", "LedgerQStoreOutage")
    servers.valkey.start()
    observed.submit("add", x=1, y=2)
    fire.out("LedgerQRedisAway", "LedgerQStoreOutage")

    observed.submit("runs", seconds=300)
    wait.until(lambda: _claimed(urls.database_url), 60, what=observed.stack.logs)
    maintenance.stop()
    # All are frozen first: a process that sees another one die would hand its task back.
    nodes.kill(*nodes.freeze(worker))
    fire.by("a worker was killed with all its processes, and maintenance was stopped", "LedgerQTasksStuck", within=90)

    servers.postgres.stop()
    fire.by("PostgreSQL was stopped", "LedgerQPostgreSQLAway")
    servers.postgres.start()
    fire.out("LedgerQPostgreSQLAway")

    monitor.kill()
    fire.by("the monitor was killed", "LedgerQExporterDown")


def _claimed(database_url: str) -> bool:
    return bool(databases.rows(database_url, "SELECT FROM claim"))
