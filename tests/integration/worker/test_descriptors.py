"""A task closes descriptors that are not its own, or puts something else in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import ledger_checks, wait

if TYPE_CHECKING:
    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

_MODULE = """
import os, socket, stat, time
from celery import shared_task

def sockets():
    found = []
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.append(number)
        except OSError:
            pass
    return found

kept = []

@shared_task
def pid():
    return os.getpid()

@shared_task
def closes_all():
    os.closerange(3, 1024)
    return "closed"

@shared_task
def closes_all_and_opens_others(path):
    os.closerange(3, 1024)
    kept.extend(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) for _ in range(40))
    return "closed"

@shared_task
def puts_a_file_in_place_of_sockets(path):
    other = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    numbers = sockets()
    for number in numbers:
        os.dup2(other, number)
    kept.extend(numbers)
    return len(numbers)

@shared_task
def puts_a_socket_in_place_of_sockets():
    numbers = sockets()
    here, there = socket.socketpair()
    there.setblocking(False)
    for number in numbers:
        os.dup2(here.fileno(), number)
    kept.append((here, there, numbers))
    return len(numbers)

@shared_task
def heard():
    [(here, there, numbers)] = kept
    try:
        return there.recv(100).decode("latin-1")
    except BlockingIOError:
        return ""

@shared_task
def are_open():
    for number in kept:
        os.fstat(number)
    return len(kept)

@shared_task
def closes_all_the_first_time(path):
    if not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT))
        os.closerange(3, 1024)
    return "closed"

@shared_task
def waits(path, gate):
    with open(path, "a") as file:
        file.write("begun ")
    while not os.path.exists(gate):
        time.sleep(0.01)

@shared_task
def takes_long_and_closes_all():
    time.sleep(0.3)
    os.closerange(3, 1024)
    time.sleep(0.3)
    return "closed"
"""


@pytest.fixture
def careless(work: Work) -> Work:
    (work.stack.folder / "careless_tasks.py").write_text(_MODULE)
    return work


def _start(work: Work, pool: str = "prefork") -> Running:
    return work.stack.worker(
        LEDGERQ_TASK_MODULES="careless_tasks", LEDGERQ_WORKER_POOL=pool, LEDGERQ_WORKER_CONCURRENCY="1"
    )


@pytest.mark.parametrize("name", ["closes_all", "closes_all_and_opens_others", "takes_long_and_closes_all"])
def test_a_pool_process_whose_descriptors_a_task_has_closed_records_it_and_is_replaced(careless: Work, name: str):
    worker = _start(careless)
    pid = careless.run("careless_tasks.pid").result
    path = careless.stack.folder / "foreign"
    row = careless.run(f"careless_tasks.{name}", **({"path": str(path)} if "opens" in name else {}))
    assert (row.state, row.result, row.attempt, row.worker_deaths) == ("SUCCESS", "closed", 1, 0), worker.log()
    assert careless.run("careless_tasks.pid").result != pid, worker.log()
    assert "worker.process.unfit" in worker.log()
    assert not path.exists() or path.read_bytes() == b""
    ledger_checks.assert_sound(careless.database_url)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_file_that_took_the_numbers_of_sockets_is_neither_written_to_nor_closed(careless: Work, pool: str):
    worker = _start(careless, pool)
    careless.run("careless_tasks.pid")  # there is a connection to Redis, too
    path = careless.stack.folder / "foreign"
    row = careless.run("careless_tasks.puts_a_file_in_place_of_sockets", path=str(path))
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0), worker.log()
    assert row.result > 1
    assert careless.run("careless_tasks.are_open").result == row.result, worker.log()
    assert path.read_bytes() == b""
    wait.until(lambda: "redis.socket_lost" in worker.log(), 30, what=worker.log)
    ledger_checks.assert_sound(careless.database_url)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_socket_that_took_the_numbers_of_ours_hears_nothing_of_the_stores(careless: Work, pool: str):
    worker = _start(careless, pool)
    careless.run("careless_tasks.pid")
    row = careless.run("careless_tasks.puts_a_socket_in_place_of_sockets")
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0), worker.log()
    assert row.result > 1
    # Bytes that are meant for a store. (If the pool has threads, all of the node is one process, and a NUL that wakes a
    # loop may come.)
    assert careless.run("careless_tasks.heard").result.strip("\0") == "", worker.log()
    ledger_checks.assert_sound(careless.database_url)


def test_a_node_of_threads_whose_descriptors_a_task_has_closed_ends_before_anything_runs_again(careless: Work):
    worker = careless.stack.worker(
        LEDGERQ_TASK_MODULES="careless_tasks", LEDGERQ_WORKER_POOL="threads", LEDGERQ_WORKER_CONCURRENCY="2"
    )
    begun, gate = careless.stack.folder / "begun", careless.stack.folder / "gate"
    neighbour = careless.submit("careless_tasks.waits", path=str(begun), gate=str(gate))
    wait.until(begun.exists, 30, what=worker.log)
    task_id = careless.submit("careless_tasks.closes_all_the_first_time", path=str(careless.stack.folder / "once"))
    assert worker.wait() != 0, worker.log()
    assert begun.read_text() == "begun "
    gate.touch()
    _start(careless)
    assert careless.ended(task_id).state == careless.ended(neighbour).state == "SUCCESS"
    ledger_checks.assert_sound(careless.database_url)
