"""Group 3: PostgreSQL restarts, throws everybody out, is full, is away. No false 202, no second start, nothing lost."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import psycopg2
import pytest

from tests.chaos.support import nodes
from tests.chaos.support.load import Load
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedPostgres
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

_QUICK = {"task_type": "chaos_tasks.quick"}
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename IS NOT NULL"
)


def _start(plant: Plant) -> str:
    plant.maintenance()
    plant.stack.register()
    plant.worker(slots=2)
    return plant.stack.api(LEDGERQ_LEDGER_TIMEOUT="3").url


def _assert_honest(load: Load) -> None:
    assert set(load.answers) <= {202, 503}, load.answers
    assert load.rude == 0, "a 503 says when to come again"


def test_promise_1_restarts_of_postgresql_under_load_lose_nothing_and_nothing_is_answered_falsely(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres, scale: Scale
):
    plant = plant_on_postgres
    with Load(_start(plant), _QUICK, clients=4) as load:
        for _ in range(scale.of(2, 10)):
            before = len(load.accepted)
            wait.until(lambda before=before: len(load.accepted) >= before + 100, 60, what="submits")
            postgres.stop()
            postgres.start()
    _assert_honest(load)
    plant.all_ended()
    plant.assert_sound(load.accepted)


def test_promise_1_terminating_every_connection_under_load_loses_nothing(plant_on_postgres: Plant, scale: Scale):
    plant = plant_on_postgres
    with Load(_start(plant), _QUICK, clients=4) as load:
        for _ in range(scale.of(20, 100)):
            before = len(load.accepted)
            wait.until(lambda before=before: len(load.accepted) >= before + 20, 60, what="submits")
            databases.execute(plant.database_url, _TERMINATE)
    _assert_honest(load)
    plant.all_ended()
    plant.assert_sound(load.accepted)


def test_promise_1_without_a_free_connection_submits_are_refused_with_a_time_and_work_goes_on_by_itself(
    plant_on_postgres: Plant,
):
    plant = plant_on_postgres
    url = _start(plant)
    plant.ended(plant.submit("quick"))
    taken: list[psycopg2.extensions.connection] = []
    with Load(url, _QUICK, clients=8) as load:
        wait.until(lambda: len(load.accepted) >= 50, 60, what="submits")

        def refused() -> bool:
            _take_what_is_free(plant.database_url, taken)  # again: a client may have come first
            return load.answers[503] >= 5

        wait.until(refused, 60, interval=0.2, what=lambda: f"refusals: {load.answers}")
        for connection in taken:
            connection.close()
    _assert_honest(load)
    plant.all_ended()
    plant.assert_sound([*plant.accepted, *load.accepted])


def test_promise_3_an_outage_of_postgresql_starts_no_running_task_twice_and_its_end_is_recorded_afterwards(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres, scale: Scale
):
    plant = plant_on_postgres
    url = _start(plant)
    plant.worker(slots=2)
    ids = [plant.submit("gated", gate="go" if number % 2 else "meanwhile") for number in range(4)]
    for task_id in ids:
        plant.recorded(task_id, "STARTED")
    postgres.stop()
    plant.open("meanwhile")
    wait.until(lambda: len(plant.journal.running()) == 2, 30, what="two tasks end while PostgreSQL is away")
    answer = http.request("POST", f"{url}/tasks/submit", _QUICK)
    assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    _pass(scale.lease * 2)
    postgres.start()
    _pass(scale.lease)
    plant.open("go")
    for task_id in ids:
        row = plant.ended(task_id)
        assert (row.state, row.attempt, row.worker_deaths, len(plant.journal.of(task_id))) == ("SUCCESS", 1, 0, 1)
    assert plant.workers() == 2, "nobody was declared dead"
    assert http.request("POST", f"{url}/tasks/submit", _QUICK).status == 202
    plant.all_ended()
    plant.assert_sound([str(task_id) for (task_id,) in databases.rows(plant.database_url, "SELECT id FROM task")])


def test_while_postgresql_is_away_what_is_not_recorded_stays_within_the_claims_and_nothing_more_begins(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres
):
    """The memory of unrecorded results is bounded by what was claimed: at most 500 tasks a slot."""
    plant = plant_on_postgres
    plant.maintenance()
    plant.submit_all("quick", [{"number": number} for number in range(6000)])
    plant.worker(slots=2)
    wait.until(lambda: len(plant.journal.runs()) > 500, 60, what="claims have grown")
    postgres.stop()
    seen = -1

    def stands_still() -> bool:
        nonlocal seen
        before, seen = seen, len(plant.journal.runs())
        return before == seen

    wait.until(stands_still, 30, interval=2, what="nothing more begins")
    postgres.start()
    recorded = int(plant.scalar("SELECT count(*) FROM task WHERE completed_at IS NOT NULL"))
    assert seen - recorded <= 2 * 500
    plant.all_ended()
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    plant.assert_sound()


def test_promise_3_who_could_not_renew_its_lease_in_an_outage_is_not_declared_dead_before_it_had_the_time(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres
):
    plant = plant_on_postgres
    lease = {"LEDGERQ_LEASE_SECONDS": "12"}
    maintenance = plant.maintenance(**lease)
    worker = plant.worker(slots=1, **lease)
    task_id = plant.submit("gated", gate="go")
    plant.recorded(task_id, "STARTED")
    agent = nodes.agent_of(worker)
    nodes.send(agent, signal.SIGSTOP)
    try:
        postgres.stop()
        maintenance.says("store.away")
        postgres.start()
        # As if the outage had been longer than the lease; the agent stands still and cannot renew it.
        databases.execute(plant.database_url, "UPDATE worker SET lease_until = now() - interval '1 minute'")
        led_until = plant.scalar("SELECT max(until) FROM leader")
        wait.until(lambda: plant.scalar("SELECT max(until) FROM leader") > led_until, 30, what="a leader")
        _pass(2.5)  # the reaper looks every second
        assert plant.scalar("SELECT count(*) FROM worker WHERE ended_at IS NULL") == 1, "half a lease was too early"
    finally:
        nodes.send(agent, signal.SIGCONT)
    plant.open("go")
    row = plant.ended(task_id)
    assert (row.state, row.attempt, row.worker_deaths, len(plant.journal.of(task_id))) == ("SUCCESS", 1, 0, 1)
    assert plant.workers() == 1, "nobody was declared dead"
    plant.assert_sound()


def test_promise_1_work_goes_on_beside_a_transaction_that_stays_open(plant_on_postgres: Plant, scale: Scale):
    plant = plant_on_postgres
    url = _start(plant)
    forgotten = psycopg2.connect(plant.database_url)
    forgotten.set_session(isolation_level="REPEATABLE READ")
    with forgotten.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM task")
    with Load(url, _QUICK, clients=4, pause=0) as load:
        wait.until(lambda: len(load.accepted) >= scale.of(1000, 20_000), 600, what="submits")
    plant.all_ended()
    assert set(load.answers) == {202}
    forgotten.close()
    plant.assert_sound(load.accepted)


def _take_what_is_free(url: str, taken: list[psycopg2.extensions.connection]) -> None:
    """Connect as often as PostgreSQL allows, throw all others out, and take their places."""
    for _ in range(2):
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                connection = psycopg2.connect(url)
                connection.autocommit = True
                taken.append(connection)
        ours = [connection.info.backend_pid for connection in taken]
        with taken[0].cursor() as cursor:
            cursor.execute(f"{_TERMINATE} AND pid <> ALL(%s)", (ours,))


def _pass(seconds: float) -> None:
    """Let time pass: that nothing happens in it is the point."""
    until = time.monotonic() + seconds
    wait.until(lambda: time.monotonic() > until, seconds + 10)
