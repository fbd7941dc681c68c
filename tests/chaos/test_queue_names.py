"""Group 2: queues that are called as something else in Redis is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from ledgerq_shared.broker import ticket_list
from ledgerq_shared.statements.submit import NewTaskOptions
from tests.support import http, wait

if TYPE_CHECKING:
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_a_queue_that_is_called_as_another_kind_of_key_stops_no_wake_up_of_another(plant: Plant):
    """A submit to it used to end the wake-ups of all queues for good: no ETA began, no lost ticket was replaced."""
    plant.stack.register()
    maintenance = plant.maintenance()
    worker = plant.worker(slots=2)
    url = plant.stack.api().url
    with redis.Redis.from_url(plant.redis_url) as client:
        client.set("of.somebody.else", "text")
        for name in ("_kombu.binding.celery.pidbox", "of.somebody.else", ticket_list("default")):
            body = {"task_type": "chaos_tasks.quick", "queue": name}
            assert http.request("POST", f"{url}/tasks/submit", body).status == 202
        lost = plant.submit("quick")
        client.delete(ticket_list("default"))  # the sweep is its recovery
        plant.ended(lost)
        plant.ended(plant.submit("quick", NewTaskOptions(countdown=0.5)))
        assert client.get("of.somebody.else") == b"text"
        # A worker that serves them beside another runs them all.
        several = plant.worker(
            slots=1, LEDGERQ_WORKER_QUEUES=f"_kombu.binding.celery.pidbox,of.somebody.else,{ticket_list('default')}"
        )
        wait.until(lambda: plant.unfinished() == 0, 30, what=several.log)
    assert "store.away" not in maintenance.log()
    assert worker.alive()
    assert several.alive()
