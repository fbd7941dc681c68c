"""Group 9: what is submitted at the same moment by many, and more than once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import http

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

_CLIENTS = 200


def _at_once(servers: list[str], path: str, bodies: list[Any], key: str | None) -> list[http.Response]:
    """Two hundred clients, half of them at each server, begin together."""
    barrier = threading.Barrier(_CLIENTS)

    def ask(number: int) -> http.Response:
        barrier.wait(60)
        headers = {"accept-language": "en", **({} if key is None else {"idempotency-key": key})}
        url = servers[number % len(servers)] + path
        return http.request("POST", url, bodies[number % len(bodies)], headers=headers)

    with ThreadPoolExecutor(_CLIENTS) as clients:
        return list(clients.map(ask, range(_CLIENTS)))


def test_one_idempotency_key_from_200_clients_of_two_servers_is_one_task_and_200_equal_answers(
    plant: Plant, scale: Scale
):
    plant.maintenance()
    plant.stack.register()
    plant.worker(slots=2)
    servers = [plant.stack.api().url for _ in range(2)]
    body = {"task_type": "chaos_tasks.quick"}
    accepted = []
    for number in range(scale.of(2, 15)):
        answers = _at_once(servers, "/tasks/submit", [body], f"key-{number}")
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body for answer in answers}) == 1
        accepted.append(answers[0].json()["task_id"])
        other = {**body, "priority": 1}
        for url in servers:
            answer = http.request("POST", f"{url}/tasks/submit", other, headers={"idempotency-key": f"key-{number}"})
            assert (answer.status, answer.json()["code"]) == (422, "idempotency_key_reused")
    plant.all_ended()
    plant.assert_sound(accepted)


def test_one_idempotency_key_from_200_clients_is_one_batch(plant: Plant):
    plant.maintenance()
    plant.stack.register()
    plant.worker(slots=2)
    servers = [plant.stack.api().url for _ in range(2)]
    body = {"tasks": [{"task_type": "chaos_tasks.quick"}] * 20}
    answers = _at_once(servers, "/tasks/submit/batch", [body], "key")
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    plant.all_ended()
    plant.assert_sound([entry["task_id"] for entry in answers[0].json()["tasks"]])


def test_one_unique_key_never_has_two_unfinished_tasks_while_workers_end_them(plant: Plant, scale: Scale):
    """Keys are taken, found taken, replaced and freed at the same time; every answer names a task that is there."""
    plant.maintenance()
    plant.stack.register()
    plant.worker(slots=2)
    servers = [plant.stack.api().url for _ in range(2)]
    policies = ("return_existing", "reject", "replace")
    bodies = [
        {"task_type": "chaos_tasks.quick", "unique_key": f"key-{number % 4}", "unique_policy": policies[number % 3]}
        for number in range(12)
    ]
    accepted = set()
    for _ in range(scale.of(2, 15)):
        answers = _at_once(servers, "/tasks/submit", bodies, None)
        assert {answer.status for answer in answers} <= {202, 409}
        assert all(answer.json()["code"] == "duplicate_task" for answer in answers if answer.status == 409)
        accepted |= {answer.json()["task_id"] for answer in answers}
    plant.all_ended()
    plant.assert_sound(accepted)
    assert plant.scalar("SELECT count(*) FROM unique_key") == 0
    # Of two tasks with one key the later was accepted only after the earlier had ended.
    assert (
        plant.scalar(
            """SELECT count(*) FROM task a JOIN task b ON a.unique_key = b.unique_key AND a.id < b.id
               -- Those of one batch were submitted one after the other, and have its transaction's time.
               WHERE a.submitted_at <> b.submitted_at AND b.submitted_at < a.completed_at - interval '1 second'
                 AND a.submitted_at < b.completed_at - interval '1 second'"""
        )
        == 0
    )
