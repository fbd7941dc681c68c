"""Group 2: Redis is emptied, stopped, frozen, or never there. It only wakes workers: nothing but the delay depends on
it.
"""

from __future__ import annotations

import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis

from tests.chaos.support import long_form, nodes
from tests.chaos.support.histogram import histogram
from tests.chaos.support.load import Load
from tests.support import wait
from tests.support.proxy import DeafProxy, RefusingProxy, SilentProxy

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedValkey
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

_QUICK = {"task_type": "chaos_tasks.quick"}


def test_promise_1_flushall_three_times_under_load_loses_no_accepted_task(plant_on_valkey: Plant):
    plant = plant_on_valkey
    plant.maintenance()
    plant.stack.register()
    plant.worker(slots=2)
    api = plant.stack.api()
    with redis.Redis.from_url(plant.redis_url) as client, Load(api.url, _QUICK, clients=4, pause=0) as load:
        for number in range(1, 4):
            wait.until(lambda number=number: len(load.accepted) >= 200 * number, 60, what="submits")
            client.flushall()
    plant.all_ended()
    assert set(load.answers) == {202}
    plant.assert_sound(load.accepted)


def test_promise_1_redis_stopped_and_started_empty_loses_nothing_and_work_goes_on_by_itself(
    plant_on_valkey: Plant, valkey: EmbeddedValkey, scale: Scale
):
    plant = plant_on_valkey
    plant.maintenance()
    plant.stack.register()
    worker = plant.worker(slots=2)
    api = plant.stack.api()
    with Load(api.url, _QUICK) as load:
        wait.until(lambda: len(load.accepted) >= 50, 60, what="submits")
        valkey.stop()
        before = len(load.accepted)
        wait.until(lambda: len(load.accepted) >= before + scale.of(100, 1500), 120, what="submits without Redis")
        shutil.rmtree(valkey.data_folder())
        valkey.start()
    assert set(load.answers) == {202}
    plant.all_ended()
    assert worker.alive()
    plant.assert_sound(load.accepted)


def test_promise_1_everything_starts_without_redis_and_submits_are_accepted(
    plant_on_valkey: Plant, valkey: EmbeddedValkey
):
    plant = plant_on_valkey
    valkey.stop()
    plant.stack.register()
    plant.maintenance()
    worker = plant.stack.worker()
    api = plant.stack.api()
    with Load(api.url, _QUICK) as load:
        wait.until(lambda: len(load.accepted) >= 20, 60, what=lambda: f"submits: {load.answers}")
    assert set(load.answers) == {202}
    valkey.start()
    plant.all_ended()
    assert worker.alive()
    plant.assert_sound(load.accepted)


def test_promise_1_a_task_that_was_submitted_without_redis_starts_when_it_is_back_although_nobody_does_anything(
    plant_on_valkey: Plant, valkey: EmbeddedValkey
):
    plant = plant_on_valkey
    plant.maintenance()
    worker = plant.worker(slots=1)
    assert plant.ended(plant.submit("quick")).state == "SUCCESS"
    valkey.stop()
    task_id = plant.submit("quick")
    valkey.start()
    assert plant.ended(task_id).state == "SUCCESS"
    assert worker.alive()
    assert plant.workers() == 1, "no node that registered brought tickets"
    plant.assert_sound()


def _restart(valkey: EmbeddedValkey, url: str) -> None:
    del url
    valkey.stop()
    valkey.start()


def _kill_connections(valkey: EmbeddedValkey, url: str) -> None:
    del valkey
    with redis.Redis.from_url(url) as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def _freeze(valkey: EmbeddedValkey, url: str) -> None:
    del url
    [server] = valkey.processes()
    nodes.send(server.pid, signal.SIGSTOP)
    try:
        # Long enough for every client's timeout (2 s) to be over; the deadline is the point, so it is waited for.
        until = time.monotonic() + 3
        wait.until(lambda: time.monotonic() > until, 10)
    finally:
        nodes.send(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [_restart, _kill_connections, _freeze], ids=["restart", "client-kill", "partition"])
@pytest.mark.parametrize("busy", [pytest.param(False, id="idle", marks=long_form), pytest.param(True, id="under-load")])
def test_a_worker_is_never_deaf_after_its_connection_to_redis_was_lost(
    plant_on_valkey: Plant, valkey: EmbeddedValkey, scale: Scale, fault, busy: bool
):
    """Celery's #8030, #8091, #10205: the worker is connected again and takes nothing."""
    plant = plant_on_valkey
    plant.maintenance()
    worker = plant.worker(slots=2)
    assert plant.ended(plant.submit("quick")).state == "SUCCESS"
    took = []
    for _ in range(scale.of(2, 10)):
        if busy:
            plant.submit_all("slow", [{"seconds": 0.02}] * 60)
        fault(valkey, plant.redis_url)
        back_at = time.monotonic()
        task_id = plant.submit("quick")
        plant.ended(task_id, timeout=40)
        took.append(time.monotonic() - back_at)
    plant.all_ended()
    assert worker.alive()
    plant.assert_sound()
    print(histogram(f"{fault.__name__.strip('_')} of Redis -> the worker takes tickets again", took, promised=15))


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=long_form), "solo"])
def test_a_worker_whose_connections_to_redis_fell_silent_hears_again_and_is_not_held_up(plant: Plant, pool: str):
    """Half-open connections: nobody closed them, and nothing comes any more."""
    plant.maintenance()
    with SilentProxy(plant.redis_url) as proxy:
        worker = plant.worker(slots=1, REDIS_URL=proxy.url, LEDGERQ_WORKER_POOL=pool)
        assert plant.ended(plant.submit("quick")).state == "SUCCESS"
        proxy.silence()
        # By itself Celery needs half a minute to miss the broker, and two minutes to miss the result backend.
        for _ in range(2):
            assert plant.ended(plant.submit("quick"), timeout=20).state == "SUCCESS"
        plant.assert_sound()
        assert worker.alive()


@pytest.mark.parametrize("pool", ["prefork", pytest.param("solo", marks=long_form)])
def test_a_worker_that_is_connected_and_takes_no_tickets_is_noticed_and_hears_again(plant: Plant, pool: str):
    """The worker may be deaf for any reason: here it is told that there are no messages, and everything else on its
    connections works.
    """
    plant.maintenance()
    with DeafProxy(plant.redis_url) as proxy:
        worker = plant.worker(slots=1, REDIS_URL=proxy.url, LEDGERQ_WORKER_POOL=pool)
        assert plant.ended(plant.submit("quick")).state == "SUCCESS"
        proxy.deafen()
        for _ in range(2):
            assert plant.ended(plant.submit("quick")).state == "SUCCESS"
        worker.says("worker.deaf")
        plant.assert_sound()
        assert worker.alive()


_WRITES = (
    "BRPOP",
    "BLMOVE",
    "LPUSH",
    "RPUSH",
    "LTRIM",
    "LREM",
    "HSET",
    "HDEL",
    "ZADD",
    "ZREM",
    "SET",
    "SETEX",
    "SADD",
    "EVALSHA",
)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", ("BRPOP",)),
        pytest.param("READONLY You can't write against a read only replica.", _WRITES, marks=long_form),
        pytest.param(
            "MISCONF Valkey is configured to save RDB snapshots, but cannot persist", _WRITES, marks=long_form
        ),
        pytest.param(
            "OOM command not allowed when used memory > 'maxmemory'.", ("HSET", "ZADD", "LPUSH"), marks=long_form
        ),
        pytest.param("LOADING Valkey is loading the dataset in memory", (), marks=long_form),
        pytest.param("BUSY Valkey is busy running a script.", (), marks=long_form),
        pytest.param("NOAUTH Authentication required.", (), marks=long_form),
        pytest.param("CLUSTERDOWN The cluster is down", (), marks=long_form),
        pytest.param("TRYAGAIN Multiple keys request during rehashing of slot", ("BRPOP",), marks=long_form),
        pytest.param("SOMETHING new in the next release", ("BRPOP",), marks=long_form),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else "",
)
def test_while_redis_refuses_running_tasks_go_on_and_afterwards_the_worker_hears_again(
    plant: Plant, text: str, commands: tuple[str, ...]
):
    """The worker was taken for deaf, though no new connection could help: it ended, and its running tasks with it."""
    maintenance = plant.maintenance()
    with RefusingProxy(plant.redis_url) as proxy:
        worker = plant.worker(slots=2, REDIS_URL=proxy.url, LEDGERQ_GRACE_SECONDS="1")
        assert plant.ended(plant.submit("quick")).state == "SUCCESS"
        running = plant.submit("gated_once", gate="go")
        plant.recorded(running, "STARTED")
        waiting = plant.submit("quick")
        proxy.refuse(text, *commands)
        # A worker that could hear is taken for deaf after 5 s. This time is what is tested, so the test waits for it.
        until = time.monotonic() + 10
        waiting = plant.submit("quick")
        wait.until(lambda: time.monotonic() > until or not worker.alive(), 30)
        assert worker.alive(), worker.log()
        assert proxy.refused
        proxy.relent()
        plant.ended(waiting)
        plant.open("go")
        assert plant.ended(running).attempt == 1
        plant.assert_sound()
        assert worker.alive()
        assert "worker.deaf" not in worker.log()
        assert maintenance.alive()
