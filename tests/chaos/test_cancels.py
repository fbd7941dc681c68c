"""Group 8: a cancel is a fact. Whoever dies, and whatever it meets, there is one outcome, and the caller is told which."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import long_form, nodes
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

#: Nobody serves it: what is submitted there waits.
_UNSERVED = "unserved"


def _cancel(url: str, task_id: str, *, terminate: bool = False) -> tuple[int, str]:
    """``(202, state)``, or ``(409, the state that it has ended in)``."""
    answer = http.request("POST", f"{url}/tasks/{task_id}/cancel", {"terminate": terminate})
    assert answer.status in (202, 409), answer.body
    return answer.status, answer.json()["status" if answer.status == 202 else "task_status"]


def _start(plant: Plant, slots: int = 4) -> str:
    plant.maintenance()
    plant.worker(slots=slots, LEDGERQ_GRACE_SECONDS="0.5")
    return plant.stack.api().url


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGKILL, id="SIGKILL"), pytest.param(signal.SIGTERM, id="SIGTERM", marks=long_form)],
)
def test_promise_6_a_cancel_survives_the_end_of_every_process_wherever_the_task_stood(plant: Plant, number: int):
    """Cancels tasks in every situation at once: waiting, with an ETA, between two tries, running and asking, running
    without asking, to be terminated.
    """
    url = _start(plant)
    waiting = plant.submit("quick", queue=_UNSERVED)
    with_eta = plant.submit("quick", NewTaskOptions(countdown=3600.0))
    trying = plant.submit("tries_later", countdown=3600)
    asking = plant.submit("asks", gate="never")
    deaf = plant.submit("gated", gate="never")
    to_kill = plant.submit("gated", gate="never")
    plant.recorded(trying, "RETRY")
    for task_id in (asking, deaf, to_kill):
        plant.recorded(task_id, "STARTED")
    for task_id in (waiting, with_eta, trying):
        assert _cancel(url, task_id) == (202, "REVOKED")
        assert _cancel(url, task_id) == (409, "REVOKED"), "a second cancel is told that it came too late"
    assert {_cancel(url, task_id) for task_id in (deaf, deaf)} == {(202, "STARTED")}, "twice is as good as once"
    assert _cancel(url, asking) == (202, "STARTED")
    assert _cancel(url, to_kill, terminate=True) == (202, "STARTED")
    _end_everything(plant, number)
    plant.worker(slots=4, LEDGERQ_WORKER_QUEUES=f"default,{_UNSERVED}")
    plant.maintenance()
    url = plant.stack.api().url
    for task_id in (waiting, with_eta, trying, asking, deaf, to_kill):
        assert plant.ended(task_id).state == "REVOKED"
        assert _cancel(url, task_id) == (409, "REVOKED")
    after = plant.submit("quick")
    assert plant.ended(after).state == "SUCCESS"
    runs = {task_id: len(plant.journal.of(task_id)) for task_id in plant.accepted}
    assert runs == {waiting: 0, with_eta: 0, trying: 1, asking: 1, deaf: 1, to_kill: 1, after: 1}
    plant.assert_sound()


def test_promise_6_a_task_cancelled_while_its_dead_node_still_has_its_lease_never_runs_again(plant: Plant):
    url = _start(plant)
    [victim] = [one for one in plant.stack.started if one.name == "worker"]
    ids = [plant.submit("gated_once", gate=f"never-{number}") for number in range(4)]
    for task_id in ids:
        plant.recorded(task_id, "STARTED")
    # All are frozen first: a process that sees another one die would hand its tasks back.
    nodes.kill(*nodes.freeze(victim))
    databases.execute(plant.database_url, "UPDATE worker SET lease_until = now() + interval '1 minute'")
    assert {_cancel(url, task_id) for task_id in ids[:2]} == {(202, "STARTED")}, "nobody knows of the death yet"
    databases.execute(plant.database_url, "UPDATE worker SET lease_until = now()")
    assert [plant.ended(task_id).state for task_id in ids[:2]] == ["REVOKED"] * 2, "no worker has to be there for that"
    plant.worker(slots=2)
    assert [plant.ended(task_id).state for task_id in ids] == ["REVOKED", "REVOKED", "SUCCESS", "SUCCESS"]
    assert [len(plant.journal.of(task_id)) for task_id in ids] == [1, 1, 2, 2]
    plant.assert_sound()


def test_promise_6_a_cancel_that_races_with_recovery_has_one_outcome(plant: Plant, scale: Scale):
    """Cancels meet pool processes that die and tasks that are just being taken back or begin again."""
    url = _start(plant)
    dice = random.Random(scale.seed)
    for number in range(scale.of(4, 40)):
        task_id = plant.submit("gated_once", gate=f"never-{number}")
        plant.begun(task_id)
        nodes.kill(plant.journal.of(task_id)[0].pid)
        until = time.monotonic() + dice.uniform(0, 0.25)
        wait.until(lambda until=until: time.monotonic() > until, interval=0.002)
        status, said = _cancel(url, task_id)
        row = plant.ended(task_id)
        _assert_told(status, said, row.state)
        if (status, said) == (202, "REVOKED"):
            assert len(plant.journal.of(task_id)) == 1, "it was taken back, and never began again"
    plant.assert_sound()


def test_promise_6_a_cancel_that_races_with_the_end_has_one_outcome_and_the_caller_is_told_which(
    plant: Plant, scale: Scale
):
    """Two clients cancel what two slots run, at any moment of its life, each task twice."""
    url = _start(plant, slots=2)
    plant.submit_all("slow", [{"seconds": 0.01}] * 50)
    plant.all_ended()  # such tasks are claimed several at a time now
    told: dict[str, list[tuple[int, str]]] = {}
    #: When a caller was told that a task will not begin any more.
    told_at: dict[str, float] = {}
    lock = threading.Lock()

    def cancel(own: list[str]) -> None:
        for task_id in own:
            answer = _cancel(url, task_id)
            with lock:
                told.setdefault(task_id, []).append(answer)
                if answer in ((202, "REVOKED"), (202, "PENDING")):
                    told_at.setdefault(task_id, time.monotonic())

    for _ in range(scale.of(1, 5)):
        ids = plant.submit_all("slow", [{"seconds": 0.01}] * 200)
        shuffled = random.Random(scale.seed).sample(ids, len(ids))
        with ThreadPoolExecutor(2) as clients:
            for client in [clients.submit(cancel, order) for order in (shuffled, shuffled[50:] + shuffled[:50])]:
                client.result(120)
    plant.all_ended()
    states = dict(databases.rows(plant.database_url, "SELECT id::text, state FROM task"))
    ran = plant.journal.runs()
    for task_id, answers in told.items():
        for status, said in answers:
            _assert_told(status, said, str(states[task_id]))
        assert len(answers) == 2
        assert (202, "REVOKED") not in answers or task_id not in ran, "revoked before it began: it never began"
    for task_id, at in told_at.items():
        assert all(run.began_at < at for run in ran.get(task_id, [])), f"{task_id} began after {told[task_id]}"
    outcomes = Counter(answer for answers in told.values() for answer in answers)
    print(outcomes)
    assert outcomes[202, "REVOKED"], outcomes
    assert outcomes[409, "SUCCESS"], outcomes
    plant.assert_sound()


def _assert_told(status: int, said: str, final: str) -> None:
    """What a caller was told agrees with what became of the task."""
    if (status, said) == (202, "REVOKED") or status == 409:
        assert final == said
    else:
        assert final in ("REVOKED", "SUCCESS"), final


def _end_everything(plant: Plant, number: int) -> None:
    """Every living process of every service."""
    if number == signal.SIGKILL:
        for running in plant.stack.started:
            nodes.kill(*nodes.all_of(running))
    for running in plant.stack.started:
        running.send(number)
    for running in plant.stack.started:
        running.wait()
