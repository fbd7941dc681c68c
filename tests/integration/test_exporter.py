"""What the monitor exports: true, complete, bounded, and never all of it missing because one thing is."""

from __future__ import annotations

import re
import socket
import threading
from typing import Any

import psycopg2
import pytest

from ledgerq_monitor.collectors.collector import Names
from ledgerq_monitor.exporter import METRICS, Exporter
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres import replica_metrics
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements import read_metrics
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_worker.maintenance import metrics as maintenance_metrics
from tests.support import databases, http, wait
from tests.support.databases import on_server
from tests.support.ports import free_port
from tests.support.prometheus import promtool

_AT_ONCE = {"LEDGERQ_MONITOR_CACHE_SECONDS": "0"}


def scraped(url: str, **headers: str) -> dict[str, float]:
    """The series of one scrape."""
    answer = http.request("GET", f"{url}/metrics", headers=headers)
    assert answer.status == 200
    lines = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def submit(database: str, *tasks: NewTask) -> None:
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
    pool.close()


def some_tasks(number: int, task_type: str = "demo.anything", **options: Any) -> list[NewTask]:
    more = NewTaskOptions(**options) if options else None
    return [NewTask(new_task_id(), task_type, "default", "{}", options=more) for _ in range(number)]


def test_every_metric_of_the_reference_is_exported_and_no_other(stack, database):
    stack.worker()
    submit(database, *some_tasks(3), *some_tasks(2, countdown=3600.0))
    monitor = stack.monitor(**_AT_ONCE)
    scraped(monitor.url)
    body = http.request("GET", f"{monitor.url}/metrics").body
    exported = set(re.findall(r"^# TYPE (ledgerq_\w+)", body.decode(), re.MULTILINE))
    assert exported == {metric.name for metric in METRICS if metric not in replica_metrics.METRICS}
    promtool("check", "metrics", told=body)


def test_the_figures_are_the_ledgers(stack, database):
    submit(database, *some_tasks(3), *some_tasks(2, countdown=3600.0))
    found = scraped(stack.monitor(**_AT_ONCE).url)
    assert found['ledgerq_tasks{queue="default",state="PENDING",task_type="demo.anything"}'] == 5
    assert found['ledgerq_queue_ready_tasks{queue="default"}'] == 3
    assert found['ledgerq_queue_held_tasks{queue="default",reason="eta"}'] == 2
    assert found['ledgerq_queue_slots{queue="default"}'] == 0
    assert found["ledgerq_leader_lease_seconds"] == 0
    assert found["ledgerq_stuck_tasks"] == 0


def test_slots_of_a_worker_whose_lease_is_over_serve_no_queue_though_nobody_declared_it_dead(stack, database):
    databases.execute(
        database,
        "INSERT INTO worker (id, name, host, pid, pool, slots, queues, task_types, started_at, beat_at, lease_until) "
        "VALUES (gen_random_uuid(), 'w', 'h', 1, 'prefork', 2, '{default}', '{}', now(), now(), now() + interval '1 hour')",
    )
    submit(database, *some_tasks(1))
    monitor = stack.monitor(**_AT_ONCE)
    assert scraped(monitor.url)['ledgerq_queue_slots{queue="default"}'] == 2
    databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
    assert scraped(monitor.url)['ledgerq_queue_slots{queue="default"}'] == 0


def test_what_ends_after_the_first_look_is_counted(stack, database):
    submit(database, *some_tasks(4))
    monitor = stack.monitor(**_AT_ONCE)
    name = 'ledgerq_tasks_ended_total{queue="default",state="REVOKED",task_type="demo.anything"}'
    assert scraped(monitor.url)[name] == 0
    count = "INSERT INTO task_count VALUES ('demo.anything', 'default', 'REVOKED', {})"
    databases.execute(database, count.format(3))
    assert scraped(monitor.url)[name] == 3
    databases.execute(database, count.format(-2))  # old tasks were deleted
    assert scraped(monitor.url)[name] == 3


def test_the_first_failures_of_a_type_are_growth_too(stack, database):
    """A series that begins at 4 has not grown for Prometheus."""
    monitor = stack.monitor(**_AT_ONCE)
    scraped(monitor.url)
    databases.execute(database, "INSERT INTO task_count VALUES ('demo.new', 'default', 'FAILURE', 4)")
    name = 'ledgerq_tasks_ended_total{queue="default",state="FAILURE",task_type="demo.new"}'
    assert [scraped(monitor.url)[name] for _ in range(3)] == [0, 4, 4]


@pytest.fixture
def reader(postgres_url, database):
    """The URL of a role that may connect and SELECT, nothing else; and its name."""
    role = f"reader_{new_task_id().hex}"
    databases.execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'r'")
    databases.execute(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    host = postgres_url.rpartition("@")[2]
    yield on_server(f"postgresql://{role}:r@{host}", database.rpartition("/")[2]), role
    databases.execute(database, f"DROP OWNED BY {role}")
    databases.execute(database, f"DROP ROLE {role}")


def test_a_role_that_may_only_select_suffices_and_a_collector_that_it_may_not_use_fails_alone(stack, database, reader):
    url, role = reader
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        databases.execute(url, "INSERT INTO queue (name) VALUES ('x')")
    monitor = stack.monitor(DATABASE_URL=url, **_AT_ONCE)
    found = scraped(monitor.url)
    assert {value for name, value in found.items() if "collector_up" in name} == {1.0}
    databases.execute(database, f"REVOKE SELECT ON outbox FROM {role}")
    found = scraped(monitor.url)
    down = [name for name, value in found.items() if "collector_up" in name and value == 0]
    assert down == ['ledgerq_monitor_collector_up{collector="dispatch"}']
    assert "ledgerq_leader_lease_seconds" not in found
    assert "ledgerq_stuck_tasks" in found
    assert "InsufficientPrivilege" in monitor.log()


def test_a_scrape_without_postgresql_says_so_and_has_the_rest(stack):
    monitor = stack.monitor(DATABASE_URL=f"postgresql://u:secret@127.0.0.1:{free_port()}/x", **_AT_ONCE)
    found = scraped(monitor.url)
    assert (found["ledgerq_postgresql_up"], found["ledgerq_redis_up"]) == (0, 1)
    assert found["ledgerq_redis_memory_bytes"] > 0
    assert "secret" not in monitor.log()


def test_a_scrape_without_redis_says_so_and_has_the_rest(stack):
    found = scraped(stack.monitor(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", **_AT_ONCE).url)
    assert (found["ledgerq_postgresql_up"], found["ledgerq_redis_up"]) == (1, 0)
    assert found["ledgerq_postgresql_database_bytes"] > 0


def test_task_types_beyond_the_bound_are_counted_together(stack, database):
    tasks = [task for kind in ("demo.a", "demo.b", "demo.c", "demo.d") for task in some_tasks(2, kind)]
    submit(database, *tasks)
    found = scraped(stack.monitor(LEDGERQ_MONITOR_MOST_NAMES="2", **_AT_ONCE).url)
    counts = {name: value for name, value in found.items() if name.startswith("ledgerq_tasks{")}
    assert len(counts) == 3
    assert sum(counts.values()) == 8
    assert counts['ledgerq_tasks{queue="default",state="PENDING",task_type="other"}'] == 4


def test_with_a_token_the_metrics_are_given_to_who_has_it(stack):
    monitor = stack.monitor(LEDGERQ_MONITOR_TOKEN="s3cret")
    assert http.request("GET", f"{monitor.url}/metrics").status == 401
    assert http.request("GET", f"{monitor.url}/metrics", headers={"authorization": "Bearer other"}).status == 401
    assert scraped(monitor.url, authorization="Bearer s3cret")
    assert "s3cret" not in monitor.log()


def test_no_statement_reads_tasks_one_by_one(database):
    databases.execute(
        database,
        "INSERT INTO task (id, task_type, queue, submitted_at, parameters)"
        " SELECT gen_random_uuid(), 'demo.anything', 'default', now(), '{}' FROM generate_series(1, 5000);"
        "ANALYZE",
    )
    statements = [
        read_metrics.read_task_counts(),
        read_metrics.read_queue_gauges(),
        read_metrics.count_held(),
        read_metrics.read_dispatch(),
        read_metrics.read_worker_gauges(limit=10),
        read_metrics.count_stuck(after=1.0),
        read_metrics.count_worker_deaths(),
    ]
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        for statement in statements:
            plan = execute(cursor, Statement(f"EXPLAIN {statement.sql}", statement.params))
            lines = [line for (line,) in plan if re.search(r" on task\b", line)]
            assert all("ix_task_worker_deaths" in line for line in lines), statement.sql
    pool.close()


class Scripted:
    """A collector that does what the test says."""

    name = "scripted"
    metrics = (Metric("ledgerq_scripted", "gauge", "A test's."),)

    def __init__(self, patience: int = 1) -> None:
        self.patience = patience
        self.looks = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.fails = False

    def collect(self):
        self.looks += 1
        self.may_answer.wait(30)
        if self.fails:
            raise RuntimeError("as told")
        return [self.metrics[0].family({(): self.looks})]


def exported(exporter: Exporter) -> dict[str, float]:
    return {sample.name: sample.value for family in exporter.scrape() for sample in family.samples}


def test_figures_are_kept_so_that_many_scrapes_cost_one_look():
    collector = Scripted()
    exporter = Exporter([collector], cache_seconds=60, timeout=10)
    assert [exported(exporter)["ledgerq_scripted"] for _ in range(5)] == [1] * 5
    assert collector.looks == 1


def test_a_collector_that_hangs_is_left_out_and_not_asked_twice():
    hanging, other = Scripted(), Scripted()
    hanging.name, other.name = "hanging", "other"
    hanging.may_answer.clear()
    exporter = Exporter([hanging, other], cache_seconds=0, timeout=1)
    for _ in range(3):
        up = [family for family in exporter.scrape() if family.name == "ledgerq_monitor_collector_up"]
        assert {sample.labels["collector"]: sample.value for sample in up[0].samples} == {"hanging": 0, "other": 1}
    assert hanging.looks == 1
    assert other.looks == 3
    hanging.may_answer.set()


def test_what_failed_has_no_figures_and_has_them_again_when_it_works():
    collector = Scripted()
    exporter = Exporter([collector], cache_seconds=0, timeout=10)
    assert exported(exporter)["ledgerq_monitor_collector_up"] == 1
    collector.fails = True
    found = exported(exporter)
    assert found["ledgerq_monitor_collector_up"] == 0
    assert "ledgerq_scripted" not in found
    collector.fails = False
    assert exported(exporter)["ledgerq_scripted"] == 3


def test_names_that_came_first_stay():
    names = Names(2)
    assert [names(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


def test_maintenance_is_scraped_where_it_is_told(stack, database):
    port = free_port()
    maintenance = stack.maintenance(LEDGERQ_METRICS_PORT=str(port))
    url = f"http://127.0.0.1:{port}"

    def leads() -> bool:
        return http.answers(f"{url}/metrics") and scraped(url)["ledgerq_maintenance_leads"] == 1

    wait.until(leads, 30, what=maintenance.log)
    submit(database, *some_tasks(2, countdown=0.01))
    wait.until(lambda: scraped(url)['ledgerq_maintenance_done_total{duty="promote"}'] == 2, 30, what=maintenance.log)
    body = http.request("GET", f"{url}/metrics").body
    assert set(re.findall(r"^# TYPE (ledgerq_\w+)", body.decode(), re.MULTILINE)) == {
        metric.name for metric in maintenance_metrics.METRICS
    }
    promtool("check", "metrics", told=body)


def test_a_metrics_port_in_use_is_one_line_and_exit_code_2(stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        maintenance = stack.maintenance(LEDGERQ_METRICS_PORT=str(taken.getsockname()[1]))
        assert maintenance.wait() == 2
    assert "LEDGERQ_METRICS_PORT" in maintenance.log().splitlines()[-1]
