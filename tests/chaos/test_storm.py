"""Group 1, all at once, under load: pool processes, parents, agents, nodes, the API and the leader die at random.

Strangers hold strong locks, supervisors send signals to whole groups, pool processes take long to start, plain Celery
messages pile up. All the while the operator's `lock_timeout` is shorter than anything takes.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from ledgerq_shared.ids import new_task_id
from tests.chaos.support import nodes
from tests.chaos.support.histogram import histogram
from tests.chaos.support.load import Load
from tests.support import databases, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant
    from tests.support.stack import Running

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

_DEATHS = ("pool process", "agent", "parent", "node", "api", "maintenance")
_TROUBLES = ("strong lock", "end of a group", "signal to a group", "slow start", "foreign backlog")
_FAULTS = (*_DEATHS, *_TROUBLES)
_LOCKED = ("task", "ready", "held", "claim", "task_event", "task_count", "outbox", "queue", "unique_key", "idempotency")
#: A key of Celery's own in Redis, of another kind than a list.
_ODD_QUEUE = "_kombu.binding.default"
#: What supervisors end a group of processes with, and what means other programs.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH)
#: Longer than a worker may be deaf.
_SLOW = {"CHAOS_SLOW_START": "8"}
#: From the end of the charged run's process to the begin of the next one, as the ledger saw it.
_RECOVERIES = """
SELECT extract(epoch FROM t.started_at - e.at)::float8 FROM task_event e JOIN task t ON t.id = e.task_id
WHERE e.kind = 'recovered' AND t.started_at > e.at AND NOT EXISTS (
  SELECT FROM task_event later WHERE later.task_id = e.task_id AND later.kind = 'recovered' AND later.seq > e.seq)
"""


def test_promise_1_and_2_every_accepted_task_ends_once_whoever_is_killed(plant: Plant, scale: Scale):
    dice = random.Random(scale.seed)
    print(f"seed {scale.seed}")
    plant.stack.register()
    databases.set_for_all(plant.database_url, lock_timeout="50ms")
    plant.stack.environment["LEDGERQ_WORKER_QUEUES"] = f"default,{_ODD_QUEUE}"
    maintenance = [plant.maintenance(), plant.maintenance()]
    workers = [plant.worker(slots=2), plant.worker(slots=2)]
    api = plant.stack.api()
    port = api.url.rpartition(":")[2]
    body = {"task_type": "chaos_tasks.slow", "task_parameters": {"seconds": 0.05}}
    killed: list[str] = []
    foreign: set[str] = set()
    took: list[float] = []
    until = time.monotonic() + scale.storm
    odd_body = {**body, "queue": _ODD_QUEUE}
    with Load(api.url, body, pause=0.1) as load, Load(api.url, odd_body, clients=1, pause=0.3) as odd:
        while time.monotonic() < until or len(killed) < len(_FAULTS):
            fault = _FAULTS[len(killed)] if len(killed) < len(_FAULTS) else dice.choice(_FAULTS)
            killed.append(fault)
            if fault == "api":
                api.kill()
                api = _same_port(plant, port)
            elif fault == "maintenance":
                maintenance.pop(dice.randrange(2)).kill()
                maintenance.append(plant.maintenance())
            elif fault == "strong lock":
                _hold(dice, plant)
            elif fault == "foreign backlog":
                foreign |= _send_natively(plant, 100)
            else:
                _hurt(dice, workers, fault)
                workers = [one for one in workers if one.alive()]
                while len(workers) < 2:
                    workers.append(plant.worker(slots=2, **_SLOW if fault == "slow start" else {}))
            before = len(load.accepted)
            failed_at = time.monotonic()
            wait.until(lambda before=before: len(load.accepted) > before + 10, 60, what=lambda: f"{load.answers}")
            _all_before_ended(plant, set(load.accepted) | set(odd.accepted))
            took.append(time.monotonic() - failed_at)
    plant.all_ended()
    # If a killed process had taken a message, Redis delivers it again, but only after an hour.
    adopted = foreign & {task_id for (task_id,) in databases.rows(plant.database_url, "SELECT id::text FROM task")}  # type: ignore[misc]
    assert set(load.answers) <= {0, 202, 503}, load.answers
    # A task may fail by quarantine only if three deaths met it.
    assert plant.scalar("SELECT count(*) FROM task WHERE state <> 'SUCCESS' AND worker_deaths < 3") == 0
    plant.assert_sound(load.accepted | odd.accepted | adopted)
    assert odd.accepted
    print(
        f"killed: { {fault: killed.count(fault) for fault in _FAULTS} }, accepted: {len(load.accepted)}, "
        f"adopted: {len(adopted)} of {len(foreign)}"
    )
    print(histogram("fault -> all that was accepted until then has ended", took, promised=15))
    recoveries = [value for (value,) in databases.rows(plant.database_url, _RECOVERIES)]
    print(histogram("taken back -> begun again", recoveries, promised=2))  # type: ignore[arg-type]


def _same_port(plant: Plant, port: str) -> Running:
    running = plant.stack.start("api", "-m", "ledgerq_api", LEDGERQ_API_PORT=port)
    running.url = f"http://127.0.0.1:{port}"
    return running


def _hurt(dice: random.Random, workers: list[Running], fault: str) -> None:
    victim = dice.choice(workers)
    if fault == "pool process":
        nodes.kill(*dice.sample(pool, 1) if (pool := nodes.pool_of(victim)) else ())
    elif fault == "agent":
        nodes.kill(nodes.agent_of(victim))
    elif fault in ("parent", "slow start"):
        victim.kill()
    elif fault == "end of a group":
        os.killpg(victim.pid, dice.choice(_ENDING))
        victim.wait(60)
    elif fault == "signal to a group":
        os.killpg(victim.pid, dice.choice(_HARMLESS))
    else:
        nodes.kill(*nodes.all_of(victim))
        victim.wait(10)


def _hold(dice: random.Random, plant: Plant) -> None:
    """Somebody works on a table and lets nobody else read it for a while."""
    until = dice.uniform(0.2, 1.2)
    table = dice.choice(_LOCKED)
    databases.execute(plant.database_url, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({until})")


def _send_natively(plant: Plant, count: int) -> set[str]:
    """A plain Celery application sends so many tasks; returns their ids."""
    with Celery("foreign", broker=plant.redis_url, set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        ids = [str(new_task_id()) for _ in range(count)]
        with app.producer_or_acquire() as producer:
            for task_id in ids:
                app.send_task("chaos_tasks.quick", task_id=task_id, producer=producer, ignore_result=True)
    return set(ids)


def _all_before_ended(plant: Plant, ids: set[str]) -> None:
    def ended() -> bool:
        sql = "SELECT count(*) FROM task WHERE id = ANY(%s::uuid[]) AND completed_at IS NULL"
        return databases.rows(plant.database_url, sql, (list(ids),)) == [(0,)]

    wait.until(ended, 60, interval=0.05, what="all that was accepted before the fault")
