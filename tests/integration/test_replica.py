"""`DATABASE_REPLICA_URL`: what may be a little old comes from a standby, for as long as its age is known and small."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from flower.events import EventsState
from structlog.testing import capture_logs

from ledgerq_monitor.collectors.collector import open_ledger
from ledgerq_monitor.exporter import build_exporter
from ledgerq_monitor.flower_tasks import LedgerTasks
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_shared import outages
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.replica import Replica
from ledgerq_shared.postgres.replica_metrics import METRICS
from ledgerq_shared.settings import SettingsError, StoreSettings
from ledgerq_shared.statements.workers import register_worker
from tests.integration.test_doctor import doctor
from tests.integration.test_several_hosts import one_url
from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.replicated import Leader, Replicated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api import Api
    from tests.support.stack import Stack

#: Seconds: no test lets data become older than this.
ANY_AGE = 3000.0
FALLBACKS = "ledgerq_replica_fallbacks_total"


@pytest.fixture(scope="module")
def pair(run_folder: Path) -> Iterator[Replicated]:
    """For tests that leave both servers running."""
    folder = Path(tempfile.mkdtemp(prefix="replica-", dir=run_folder))
    folder.chmod(0o755)
    with Replicated(folder) as made:
        api_support.register(made.primary.url, *api_support.CATALOGUE)
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_pair(workspace: Path) -> Iterator[Replicated]:
    """For a test that does not."""
    with Replicated(workspace) as made:
        api_support.register(made.primary.url, *api_support.CATALOGUE)
        yield made


@contextmanager
def serve(pair: Replicated, redis: str, *, max_lag: float = ANY_AGE, url: str | None = None) -> Iterator[Api]:
    replica_url = pair.standbys[0].url if url is None else url
    with api_support.serve(pair.primary.url, redis, replica_url=replica_url, max_lag=max_lag) as running:
        yield running


@contextmanager
def paused(pair: Replicated, leader: Leader) -> Iterator[None]:
    """The standby shows what was when this begins."""
    [standby] = pair.standbys
    pair.all_have_it()
    standby.pause(leader)
    try:
        yield
    finally:
        standby.resume()


def listed(api: Api, **query: object) -> Any:
    answer = api.get("/tasks/", **query)
    assert answer.status == 200, answer.body
    return answer.json()


def ids_of(page: Any) -> list[str]:
    return [task["task_id"] for task in page["tasks"]]


def figures(api: Api) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in api.get("/metrics").body.decode().splitlines()]
    return {name: float(value) for name, _, value in lines if name.startswith("ledgerq_replica_")}


def fallbacks(api: Api, reason: str) -> float:
    return figures(api)[f'{FALLBACKS}{{reason="{reason}"}}']


def answers_by_replica(api: Api) -> bool:
    return "as_of" in listed(api)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_lists_are_the_replicas_and_say_of_when_while_what_has_an_id_is_the_primarys(
    pair: Replicated, redis_database: str
):
    with Leader(pair.primary.url) as leader, serve(pair, redis_database) as api:
        old = api.submit(queue="before")
        wait.until(lambda: old in ids_of(listed(api)) and answers_by_replica(api), what="the replica shows the task")
        with paused(pair, leader):
            before = datetime.now(UTC)
            new = api.submit(queue="since")
            page = listed(api)
            assert (new in ids_of(page), old in ids_of(page)) == (False, True)
            assert moment(page["as_of"]) < before
            assert ids_of(listed(api, queue="since")) == []
            queues = api.get("/queues").json()
            assert "since" not in {one["name"] for one in queues["queues"]}
            assert moment(queues["as_of"]) < before
            assert moment(api.get("/workers").json()["as_of"]) < before
            for path in ("", "/status", "/events", "/explain"):
                answer = api.get(f"/tasks/{new}{path}")
                assert (answer.status, "as_of" in answer.json()) == (200, False), path
            assert api.post(f"/tasks/{new}/cancel", {}).status == 202
        wait.until(lambda: new in ids_of(listed(api)), what="the replica shows the new task, too")
        assert moment(listed(api)["as_of"]) > before
        sessions = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'ledgerq-api'"
        assert databases.rows(pair.standbys[0].url, sessions) == [(True,)]
        assert set(figures(api)) >= {metric.name for metric in METRICS if not metric.labels}


def test_one_that_shows_what_is_too_old_is_not_used_although_nothing_was_written_since_but_the_leaders_beat(
    pair: Replicated, redis_database: str
):
    with Leader(pair.primary.url) as leader, serve(pair, redis_database, max_lag=2.0) as api:
        wait.until(lambda: answers_by_replica(api), what="the replica is used")
        too_old = fallbacks(api, "too_old")
        with paused(pair, leader):
            wait.until(lambda: not answers_by_replica(api), what="it is too old")
            new = api.submit()
            assert ids_of(listed(api))[0] == new
            assert fallbacks(api, "too_old") >= too_old + 2
            assert outages.REPLICA.is_on
        wait.until(lambda: answers_by_replica(api), what="it is used again")
        assert not outages.REPLICA.is_on


def test_a_leader_that_is_gone_marks_no_time_so_the_primary_answers(pair: Replicated, redis_database: str):
    with serve(pair, redis_database, max_lag=2.0) as api:
        with Leader(pair.primary.url):
            wait.until(lambda: answers_by_replica(api), what="the replica is used")
        wait.until(lambda: not answers_by_replica(api), what="nobody knows how old it is")


def test_whoever_goes_on_from_the_primarys_page_finds_no_hole(pair: Replicated, redis_database: str):
    with Leader(pair.primary.url) as leader, serve(pair, redis_database) as api:
        api.submit()
        with paused(pair, leader), api_support.serve(pair.primary.url, redis_database) as primary:
            new = [api.submit() for _ in range(4)][::-1]
            page = listed(primary, page_size=2)
            assert ids_of(page) == new[:2]
            assert ids_of(listed(api, page_size=2, cursor=page["next_cursor"])) == new[2:]
            assert ids_of(listed(api, page_size=2, page=2)) == new[2:]
            assert new[0] not in ids_of(listed(api))


def test_behind_a_cursor_of_some_age_the_replica_answers(pair: Replicated, redis_database: str):
    with Leader(pair.primary.url), serve(pair, redis_database, max_lag=10.0) as api:
        an_hour_ago = int(datetime.now(UTC).timestamp() - 3600) * 1000
        cursor = f"{an_hour_ago:012x}-7000-8000-000000000000".replace("-", "")
        wait.until(lambda: "as_of" in listed(api, cursor=cursor), what="the replica answers")
        assert "as_of" not in listed(api, cursor=uuid4())  # the time of this cursor is not known


def test_a_node_is_live_on_the_replica_as_it_was_at_the_time_that_it_shows(pair: Replicated, redis_database: str):
    name = f"node-{uuid4()}"
    with Leader(pair.primary.url) as leader, serve(pair, redis_database) as api:
        database = Database(pair.primary.url, application_name="test")
        with database.transaction() as cursor:
            execute(cursor, register_worker(
                worker_id=uuid4(), name=name, host="h", pid=1, pool="solo", slots=7, queues=[name], task_types=[],
                lease=4.0,
            ))  # fmt: skip
        database.close()
        api.submit(queue=name)
        pair.all_have_it()
        leader.next_beat()
        with paused(pair, leader):
            over = f"SELECT lease_until < now() FROM worker WHERE name = '{name}'"
            wait.until(lambda: databases.rows(pair.primary.url, over) == [(True,)], what="the lease is over")
            workers = api.get("/workers").json()
            assert "as_of" in workers
            [node] = [one for one in workers["workers"] if one["name"] == name]
            assert node["heartbeat_age_seconds"] < 4
            [queue] = [one for one in api.get("/queues").json()["queues"] if one["name"] == name]
            assert queue["worker_slots"] == 7


def test_a_read_that_the_replay_cancels_is_done_by_the_primary_and_the_replica_stays_in_use(pair: Replicated):
    [standby] = pair.standbys

    def patience(order: str) -> None:
        databases.execute(standby.url, f"ALTER SYSTEM {order}")
        databases.execute(standby.url, "SELECT pg_reload_conf()")

    patience("SET max_standby_streaming_delay = '10ms'")
    ledger = Database(pair.primary.url, application_name="test")
    replica = Replica(standby.url, ledger, application_name="test", size=1, max_lag=ANY_AGE, statement_timeout=60.0)
    reads = threading.Event()

    def read(cursor: Any) -> str:
        cursor.execute("SELECT count(*) FROM held")
        reads.set()
        cursor.execute("SELECT pg_sleep(60)")
        return "the replica's"

    def lock() -> None:
        assert reads.wait(30)
        databases.execute(
            pair.primary.url, "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE; SELECT pg_switch_wal(); COMMIT"
        )

    with Leader(pair.primary.url):
        assert replica.look(lambda _: "the replica's", lambda: "the primary's").value == "the replica's"
        locking = threading.Thread(target=lock)
        locking.start()
        assert replica.look(read, lambda: "the primary's") == ("the primary's", None)
        locking.join(30)
        patience("RESET max_standby_streaming_delay")
        assert replica.look(lambda _: "the replica's", lambda: "the primary's").value == "the replica's"
    replica.close()
    ledger.close()


def test_the_monitors_counts_are_the_replicas_and_no_end_counts_twice_when_it_comes_and_goes(
    pair: Replicated, redis_database: str
):
    stores = StoreSettings(
        database_url=pair.primary.url,
        database_replica_url=pair.standbys[0].url,
        redis_url=redis_database,
        ledgerq_replica_max_lag=ANY_AGE,
        _env_file=None,
    )
    exporter = build_exporter(stores, MonitorSettings(cache_seconds=0))
    queue = f"q-{uuid4()}"

    def scraped() -> dict[str, float]:
        families = exporter.scrape()
        assert all(
            sample.value for one in families if one.name == "ledgerq_monitor_collector_up" for sample in one.samples
        )
        found = [sample for one in families for sample in one.samples]
        return {
            name: sum(one.value for one in found if one.name == name and one.labels.get("queue", queue) == queue)
            for name in ("ledgerq_tasks", "ledgerq_tasks_ended_total", "ledgerq_leader_lease_seconds")
        }

    with Leader(pair.primary.url) as leader, api_support.serve(pair.primary.url, redis_database) as api:
        ended = [api.submit(queue=queue) for _ in range(3)]
        pair.all_have_it()
        leader.next_beat()
        pair.all_have_it()
        wait.until(lambda: scraped()["ledgerq_tasks"] == 3, what="the replica's counts")
        with paused(pair, leader):
            for task_id in ended:
                assert api.post(f"/tasks/{task_id}/cancel", {}).status == 202
            api.submit(queue=queue)
            found = scraped()
            assert (found["ledgerq_tasks"], found["ledgerq_tasks_ended_total"]) == (3, 0)
            assert found["ledgerq_leader_lease_seconds"] > 0
            # The replica is too old once; from then on only data that are as new as that look are shown.
            ledger = next(one.collector for one in exporter._kept if one.collector.name == "tasks")._ledger
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ledger._replica, "max_lag", 0.0)
                wait.until(lambda: scraped()["ledgerq_tasks_ended_total"] == 3, what="the primary's counts")
            wait.until(lambda: scraped() and not outages.REPLICA.is_on, what="it is used again")
            assert scraped()["ledgerq_tasks_ended_total"] == 3
        pair.all_have_it()
        assert scraped()["ledgerq_tasks_ended_total"] == 3
    exporter.close()


def test_flower_takes_nothing_back_that_the_replica_does_not_know_yet(pair: Replicated, redis_database: str):
    stores = StoreSettings(
        database_url=pair.primary.url,
        database_replica_url=pair.standbys[0].url,
        redis_url=redis_database,
        ledgerq_replica_max_lag=ANY_AGE,
        _env_file=None,
    )
    ledger = open_ledger(stores, application_name="test", size=1, timeout=5.0)
    state = EventsState()
    shown = LedgerTasks(state, ledger, rate=1000.0)

    def look() -> None:
        asked = shown._whom_to_ask_about()
        shown._show(shown._look(asked), asked)

    def states(*ids: str) -> list[str | None]:
        look()
        return [getattr(state.tasks.data.get(one), "state", None) for one in ids]

    with Leader(pair.primary.url) as leader, api_support.serve(pair.primary.url, redis_database) as api:
        told, again = api.submit(), api.submit()
        assert api.post(f"/tasks/{again}/cancel", {}).status == 202
        wait.until(lambda: states(told, again) == ["PENDING", "REVOKED"], what="the ledger's tasks")
        # By more than clocks may differ.
        past = f"SELECT submitted_at < now() - interval '2 seconds' FROM task WHERE id = '{again}'"
        wait.until(lambda: databases.rows(pair.primary.url, past) == [(True,)], what="it is of some age")
        with paused(pair, leader):
            # The replica does not know yet what a worker reports.
            event = {"type": "task-started", "uuid": told, "hostname": "w", "timestamp": time.time(), "clock": 1}
            state.event(event | {"local_received": time.time()})
            assert states(told, again) == ["STARTED", "REVOKED"]
            # Nor does it know what the primary, which was asked once in its place, has answered.
            assert api.post(f"/tasks/{again}/retry", {}).status == 202
            new = api.submit()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ledger._replica, "max_lag", 0.0)
                wait.until(lambda: states(new) == ["PENDING"], what="the primary's tasks")
            assert state.tasks.data[again].state == "PENDING"
            wait.until(lambda: look() is None and not outages.REPLICA.is_on, what="it is used again")
            assert states(again) == ["PENDING"]
        wait.until(lambda: states(told) == ["PENDING"], what="the ledger is right in the end")


def test_without_a_replica_nothing_is_asked_or_said_beyond_what_a_list_needs(database: str, redis_database: str):
    api_support.register(database, *api_support.CATALOGUE)
    with capture_logs() as lines, api_support.serve(database, redis_database, debug=True) as api:
        api.submit()
        before = len(lines)
        assert "as_of" not in listed(api)
        for path in ("/queues", "/workers"):
            assert "as_of" not in api.get(path).json()
        asked = [line["sql"] for line in lines[before:] if line["event"] == "database.statement"]
        assert not [sql for sql in asked if "pg_control_system" in sql]
        of_the_list = [sql for sql in asked if sql.startswith("SET LOCAL statement_timeout = 8000; SELECT")]
        assert ["FROM task_count" in sql for sql in of_the_list] == [True, False], "the counts, the page"


def test_of_several_servers_one_that_is_a_standby_is_meant(pair: Replicated, redis_database: str):
    both = one_url(pair.primary.url, pair.standbys[0].url)
    with Leader(pair.primary.url), serve(pair, redis_database, url=both) as api:
        wait.until(lambda: answers_by_replica(api), what="the standby was found")


def test_another_cluster_or_database_is_refused_at_the_start_in_one_line(
    pair: Replicated, database: str, stack: Stack, redis_database: str
):
    """The run's own server is a stranger to the pair."""
    [standby] = pair.standbys
    databases.execute(pair.primary.url, "CREATE DATABASE another")
    databases.migrate(databases.on_server(pair.primary.url, "another"))
    pair.all_have_it()
    refused = "is no copy of that of DATABASE_URL"
    running = stack.start("api", "-m", "ledgerq_api", DATABASE_URL=database, DATABASE_REPLICA_URL=standby.url)
    assert running.wait(60) == 2, running.log()
    [line] = [one for one in running.log().splitlines() if "DATABASE_REPLICA_URL" in one]
    assert refused in line
    ledger = Database(pair.primary.url, application_name="test")
    for url in (database, databases.on_server(standby.url, "another"), databases.on_server(standby.url, "template1")):
        replica = Replica(url, ledger, application_name="test", size=1, max_lag=ANY_AGE, statement_timeout=5.0)
        with pytest.raises(SettingsError, match=refused):
            replica.check()
        assert replica.look(lambda _: "wrong", lambda: "right") == ("right", None)
        replica.close()
    ledger.close()
    # A standby that has all a replica needs, but of another cluster, which took that address while processes ran.
    own = Database(database, application_name="test")
    with Leader(pair.primary.url) as leader:
        leader.next_beat()
        pair.all_have_it()
        replica = Replica(standby.url, own, application_name="test", size=1, max_lag=ANY_AGE, statement_timeout=5.0)
        assert replica.look(lambda _: "wrong", lambda: "right") == ("right", None)
        replica.close()
    own.close()
    outages.REPLICA.forget()
    code, text = doctor(pair.primary.url, DATABASE_REPLICA_URL=database)
    assert (code, "FAILS   replica" in text) == (1, True), text


def test_the_doctor_knows_whether_it_would_be_used(pair: Replicated):
    [standby] = pair.standbys
    with Leader(pair.primary.url) as leader:
        leader.next_beat()
        pair.all_have_it()
        _, text = doctor(pair.primary.url, DATABASE_REPLICA_URL=standby.url)
        assert "ok      replica" in text, text
        _, text = doctor(pair.primary.url, DATABASE_REPLICA_URL=pair.primary.url)
        assert "change  replica      not used: it is no standby" in text, text


def test_a_role_without_special_rights_may_ask_a_replica(pair: Replicated):
    databases.execute(
        pair.primary.url,
        "CREATE ROLE plain LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA public TO plain; "
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain",
    )
    pair.all_have_it()
    urls = [one.url.replace(one.url.split("//")[1].split("@")[0], "plain:x") for one in (pair.primary, *pair.standbys)]
    stores = StoreSettings(
        database_url=urls[0], database_replica_url=urls[1], redis_url="redis://h", ledgerq_replica_max_lag=ANY_AGE
    )
    ledger = open_ledger(stores, application_name="test", size=1, timeout=5.0)
    with Leader(pair.primary.url) as leader:
        leader.next_beat()
        wait.until(lambda: ledger.look(lambda _: None).as_of is not None, what="the replica answers")


def test_a_replica_that_dies_stands_still_or_is_promoted_costs_nobody_an_answer(
    own_pair: Replicated, redis_database: str
):
    [standby] = own_pair.standbys
    with Leader(own_pair.primary.url) as leader, serve(own_pair, redis_database) as api:

        def is_left_alone(reason: str) -> None:
            before = fallbacks(api, reason)
            new = api.submit()
            assert ids_of(listed(api))[0] == new
            assert fallbacks(api, reason) == before + 1
            assert api.get("/queues").status == 200

        wait.until(lambda: answers_by_replica(api), what="the replica is used")
        standby.kill()
        is_left_alone("away")
        standby.start()
        wait.until(lambda: answers_by_replica(api), what="it is used again after its death")
        standby.freeze()
        is_left_alone("away")
        standby.thaw()
        wait.until(lambda: answers_by_replica(api), what="it is used again after it stood still")
        standby.promote()
        is_left_alone("not_a_standby")
        leader.next_beat()
