"""Group 7: thousands of times that come at once, two maintenance processes, leaders that die."""

from __future__ import annotations

import glob
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.chaos.support.histogram import histogram
from tests.chaos.support.plant import MODULE
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_promise_5_thousands_due_at_once_run_once_each_while_leaders_are_killed(plant: Plant, scale: Scale):
    count, kills = scale.of(3000, 10_000), scale.of(4, 20)
    talkative = {"LEDGERQ_LOG_LEVEL": "info"}
    plant.worker(slots=2)
    plant.submit_all("quick", [{"number": number} for number in range(count)], NewTaskOptions(countdown=4.0))
    assert plant.scalar("SELECT count(*) FROM held") == count
    standing = [plant.maintenance(**talkative), plant.maintenance(**talkative)]
    for _ in range(kills):
        leader = wait.until(lambda: nodes.leader_of(standing), 60, what="a leader")
        assert leader
        leader.kill()
        standing.remove(leader)
        standing.append(plant.maintenance(**talkative))
    plant.all_ended()
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0, "nothing runs before its time"
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    late = databases.rows(plant.database_url, "SELECT extract(epoch FROM started_at - run_at)::float8 FROM task")
    plant.assert_sound()
    promised = 15 + kills * plant.lease
    print(histogram("ETA -> started, with leaders being killed", [value for (value,) in late], promised=promised))  # type: ignore[misc]


#: Debian's package libfaketime: a process's wall clock by a file, changed while it runs.
_FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)  # noqa: PTH207 - a pattern from the root


@pytest.mark.skipif(_FAKETIME is None, reason="no libfaketime on this machine (Debian: apt-get install libfaketime)")
def test_promise_5_clocks_that_differ_and_jump_begin_nothing_early_nothing_twice_and_declare_nobody_dead(
    plant: Plant,
):
    """Two maintenance processes, an hour ahead and an hour behind; both clocks jump, and the leader dies."""
    talkative = {"LEDGERQ_LOG_LEVEL": "info"}
    worker = plant.worker(slots=2)
    standing = [
        plant.maintenance(**talkative, **_clock(plant, name, offset)) for name, offset in (("a", "+1h"), ("b", "-1h"))
    ]
    for number, (jump, back) in enumerate([("+9h", "-9h"), ("-5d", "+5d")]):
        plant.submit_all("quick", [{"number": one} for one in range(200)], NewTaskOptions(countdown=3.0))
        later = plant.submit("quick", NewTaskOptions(countdown=3600.0))
        running = plant.submit("gated", gate=f"go-{number}")
        plant.recorded(running, "STARTED")
        leader = wait.until(lambda: nodes.leader_of(standing), 30, what="a leader")
        assert leader
        for name, offset in (("a", jump), ("b", back)):
            _set_clock(plant, name, offset)
        leader.kill()
        standing.remove(leader)
        standing.append(plant.maintenance(**talkative, **_clock(plant, "a", "+1h")))
        wait.until(lambda: plant.unfinished() == 2, 60, what=lambda: f"{plant.unfinished()}")
        assert plant.row(later).state == "PENDING", "an hour is an hour by the database's clock"
        plant.open(f"go-{number}")
        assert plant.ended(running).attempt == 1
        assert http.request("POST", f"{plant.stack.api().url}/tasks/{later}/cancel").status == 202
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    assert plant.workers() == 1, "nobody was declared dead"
    assert worker.alive()
    plant.assert_sound()


@pytest.mark.skipif(_FAKETIME is None, reason="no libfaketime on this machine (Debian: apt-get install libfaketime)")
def test_promise_5_clocks_of_api_and_worker_that_differ_and_jump_change_no_time_and_lose_no_lease(plant: Plant):
    """The API two hours ahead, the worker two behind; both jump by days while tasks wait, run and are tried again."""
    plant.stack.register()
    plant.maintenance()
    api = plant.stack.api(**_clock(plant, "api", "+2h"))
    # Python's time.sleep would fail under libfaketime, because it waits for a moment of a clock that libfaketime leaves
    # alone
    shim = plant.folder / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import select, time\ntime.sleep = lambda s: select.select([], [], [], s)\n")
    plant.worker(slots=2, **_clock(plant, "worker", "-2h"), PYTHONPATH=str(shim))

    def submit(name: str, **options: object) -> str:
        answer = http.request("POST", f"{api.url}/tasks/submit", {"task_type": f"{MODULE}.{name}", **options})
        assert answer.status == 202, answer.json()
        plant.accepted.append(answer.json()["task_id"])
        return plant.accepted[-1]

    for number, (of_api, of_worker) in enumerate([("-9d", "+9d"), ("+3d", "-3d")]):
        running = submit("gated", task_parameters={"gate": f"go-{number}"})
        plant.recorded(running, "STARTED")
        tried = submit("tries_later", task_parameters={"countdown": 2.0})
        plant.recorded(tried, "RETRY")
        soon = [submit("quick", countdown=2.0) for _ in range(20)]
        moment = plant.scalar("SELECT (now() + interval '2 s')::text")
        soon += [submit("quick", eta=moment.replace(" ", "T") + ":00") for _ in range(20)]
        later = submit("quick", countdown=3600.0)
        for name, offset in (("api", of_api), ("worker", of_worker)):
            _set_clock(plant, name, offset)
        for task_id in soon:
            assert plant.ended(task_id).attempt == 1
        assert plant.row(later).state == "PENDING", "an hour is an hour by the database's clock"
        plant.open(f"go-{number}")
        assert plant.ended(running).attempt == 1
        assert plant.ended(tried).attempt == 4, "its three retries, each after its delay"
        assert http.request("POST", f"{api.url}/tasks/{later}/cancel").status == 202
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0
    times = "submitted_at, started_at, completed_at, run_at - interval '1 hour'"
    assert plant.scalar(f"SELECT count(*) FROM task WHERE greatest({times}) > now()") == 0, (
        "no time is the API's or worker's"
    )
    assert plant.scalar("SELECT count(*) FROM task WHERE completed_at < started_at OR started_at < submitted_at") == 0
    wait.until(lambda: plant.live_workers() == 1, what="the lease is renewed")
    assert plant.workers() == 1, "nobody was declared dead"
    plant.assert_sound()


@pytest.mark.skipif(_FAKETIME is None, reason="no libfaketime on this machine (Debian: apt-get install libfaketime)")
@pytest.mark.parametrize("offset", ["-15m", "+15m"])
def test_what_an_api_with_a_wrong_clock_accepts_is_found_by_its_time(plant: Plant, offset: str):
    plant.stack.register()
    api = plant.stack.api(**_clock(plant, "api", offset))
    answer = http.request("POST", f"{api.url}/tasks/submit", {"task_type": f"{MODULE}.quick"})
    assert answer.status == 202
    times = plant.scalar("SELECT ARRAY[now() - interval '1 minute', now() + interval '1 minute']::text[]")
    after, before = (quote(str(time).replace(" ", "T") + ":00") for time in times)
    found = http.request("GET", f"{api.url}/tasks/?submitted_after={after}&submitted_before={before}").json()
    assert [task["task_id"] for task in found["tasks"]] == [answer.json()["task_id"]]
    assert api.log().count("clock.is_off") == 1
    task_id = answer.json()["task_id"]
    assert http.request("GET", f"{api.url}/tasks/{task_id}").json()["attempts"] == []


def _clock(plant: Plant, name: str, offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock the test sets; how long things take stays as it is."""
    _set_clock(plant, name, offset)
    return {
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(plant.folder / f"clock-{name}"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _set_clock(plant: Plant, name: str, offset: str) -> None:
    """Atomically, for the clock is read all the time."""
    new = plant.folder / f"clock-{name}.new"
    new.write_text(offset)
    new.replace(plant.folder / f"clock-{name}")


def test_promise_5_no_time_waits_in_a_workers_memory(plant: Plant):
    """A retry's delay and an ETA survive the death of every process."""
    maintenance = plant.maintenance()
    worker = plant.worker(slots=1)
    due = plant.submit_all("quick", [{"number": 1}] * 20, NewTaskOptions(countdown=3.0))
    worker.kill()
    maintenance.kill()
    until = time.monotonic() + 1
    wait.until(lambda: time.monotonic() > until)
    plant.maintenance()
    plant.worker(slots=1)
    for task_id in due:
        assert plant.ended(task_id).attempt == 1
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0
    plant.assert_sound()
