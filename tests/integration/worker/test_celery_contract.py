"""Celery's contract, kept while the ledger has every outcome."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis
from celery import Celery, chain, chord, group

from ledgerq_shared.broker import ticket_list
from ledgerq_shared.statements.submit import NewTaskOptions
from ledgerq_worker.celery.seams.strangers import REFUSED
from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks, wait
from tests.support.stack import clean_environment


def test_the_users_custom_task_runs_word_for_word(work: Work):
    work.start()
    row = work.run("custom_tasks.my_custom_task", param1="a", param2=2)
    assert (row.state, row.result) == ("SUCCESS", {"status": "success", "data": ["a", 2]})
    assert (row.progress, row.progress_status) == (100, "任务完成")
    ledger_checks.assert_sound(work.database_url)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_pool_runs_tasks_and_ends_on_a_signal(work: Work, pool: str):
    worker = work.start(LEDGERQ_WORKER_POOL=pool)
    assert work.run("add", x=1, y=2).result == 3
    assert work.run("too_slow").error["type"] == "SoftTimeLimitExceeded"
    assert worker.stop() == 0
    assert "worker.slot.lost" not in worker.log()
    assert databases.rows(work.database_url, "SELECT ended_why FROM worker") == [("stopped",)]


def test_no_pool_process_stands_still_to_search_celery_itself_for_garbage(work: Work):
    work.start()
    assert work.run("objects_left_out_of_garbage_collection").result > 50_000


def test_values_errors_and_odd_ends_are_recorded_as_what_they_are(work: Work):
    worker = work.start()
    for value in (None, True, 0, -(2**80), 1.5, "text \ud800 \x00 é", [], {"a": [1, {"b": None}]}):
        row = work.run("echo", value=value)
        assert (row.state, row.result) == ("SUCCESS", value)
    assert work.run("silent").result is None
    failed = work.run("fails", text="ordered")
    assert (failed.state, failed.error["type"], failed.error["message"]) == ("FAILURE", "ValueError", "ordered")
    first, frame, *_ = failed.error["traceback"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert "contract_tasks.py" in frame  # the task's own code, and not what called it
    assert "raise ValueError(text)" in failed.error["traceback"]
    [told] = [line for line in map(json.loads, worker.log().splitlines()) if "raised unexpected" in line["event"]]
    assert told["exception"].splitlines()[1] == frame
    ends = {
        "exits": ("FAILURE", "SystemExit"),
        "rejects": ("FAILURE", "Reject"),
        "returns_a_set": ("FAILURE", "ResultNotSerializable"),
        "returns_nan": ("FAILURE", "ResultNotSerializable"),
        "ignores": ("SUCCESS", None),
    }
    for name, (state, error) in ends.items():
        row = work.run(name)
        assert (row.state, (row.error or {}).get("type")) == (state, error), name
    ledger_checks.assert_sound(work.database_url)


def test_retries_wait_in_the_ledger_and_are_counted_apart_from_attempts(work: Work):
    work.start()
    asked = work.run("asks_again")
    assert (asked.state, asked.attempt, asked.retries, asked.error["type"]) == ("FAILURE", 3, 2, "ValueError")
    by_celery = work.run("retried_by_celery")
    assert (by_celery.state, by_celery.attempt, by_celery.result) == ("SUCCESS", 2, 1)
    once = work.run("asks_again", NewTaskOptions(max_retries=0))
    assert (once.state, once.attempt) == ("FAILURE", 1)
    ledger_checks.assert_sound(work.database_url)


def test_limits_and_deaths_end_the_task_and_spare_its_neighbours(work: Work):
    work.start()
    killer, slow = work.submit("kills_its_process"), work.submit("far_too_slow")
    others = [work.submit("add", x=number, y=1) for number in range(30)]
    assert work.ended(killer, 60).error["type"] == "TaskQuarantined"
    assert work.row(killer).worker_deaths == 3
    assert work.ended(slow, 60).error["type"] == "TimeLimitExceeded"
    for task_id in others:
        row = work.ended(task_id)
        assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0)
    ledger_checks.assert_all_ended(work.database_url, [killer, slow, *others])


def test_a_plain_celery_producer_gets_canvas_and_results_as_before(work: Work, redis_database: str):
    work.start()
    app = Celery("producer", broker=redis_database, backend=redis_database)
    app.conf.task_default_queue = "default"
    add = app.signature("contract_tasks.add")
    assert add.clone((1, 2)).apply_async().get(timeout=30) == 3
    assert chain(add.clone((1, 2)), add.clone((10,)), add.clone((100,))).apply_async().get(timeout=30) == 113
    assert group(add.clone((i, i)) for i in range(3)).apply_async().get(timeout=30) == [0, 2, 4]
    body = app.signature("contract_tasks.total")
    assert chord([add.clone((i, i)) for i in range(4)], body).apply_async().get(timeout=30) == 12
    assert app.send_task("contract_tasks.replaced").get(timeout=30) == 42
    assert add.clone((3, 4)).apply_async(countdown=0.3).get(timeout=30) == 7
    with pytest.raises(Exception, match="ordered"):
        app.send_task("contract_tasks.fails", ("ordered",)).get(timeout=30)
    app.send_task("contract_tasks.fails", ("x",), link_error=app.signature("contract_tasks.told_of_failure"))
    wait.until((work.stack.folder / "told.txt").exists, 30, what="the errback")
    wait.until(lambda: not databases.rows(work.database_url, "SELECT 1 FROM claim UNION SELECT 1 FROM outbox"), 30)
    ledger_checks.assert_sound(work.database_url)
    app.close()


def test_delay_from_a_plain_python_process_goes_through_the_ledger(work: Work, redis_database: str):
    script = (
        "from celery import Celery\n"
        f"app = Celery('web', broker='{redis_database}', backend='{redis_database}')\n"
        "app.set_default()\n"
        "import custom_tasks\n"
        "options = dict(countdown=0.2, queue='default', priority=8)\n"
        "print(custom_tasks.my_custom_task.apply_async((1, 2), **options).id)\n"
    )
    environment = clean_environment() | {"DATABASE_URL": work.database_url, "REDIS_URL": redis_database}
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=work.stack.folder, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    task_id = printed.strip()
    [(state, priority, actor)] = databases.rows(
        work.database_url,
        "SELECT state, priority, actor FROM task JOIN task_event e ON e.task_id = task.id AND e.seq = 1",
    )
    assert (state, priority, actor) == ("PENDING", 8, "client")
    work.start()
    assert work.ended(task_id).result == {"status": "success", "data": [1, 2]}


def test_an_existing_application_keeps_its_names_routes_signals_and_configuration(work: Work):
    (work.stack.folder / "existing.py").write_text(
        "from celery import Celery, signals\n"
        "app = Celery('existing')\n"
        "app.conf.update(task_routes={'shop.pay': {'queue': 'money'}}, task_time_limit=77, result_expires=55)\n"
        "@app.task(name='shop.pay')\n"
        "def pay(amount):\n    return amount * 2\n"
        "@signals.task_success.connect\n"
        "def seen(sender=None, **_):\n    open('signals.txt', 'a').write(sender.name + '\\n')\n"
    )
    work.stack.register(LEDGERQ_CELERY_APP="existing:app")
    assert databases.rows(
        work.database_url,
        "SELECT queue, (options->>'time_limit')::int FROM task_type WHERE name = 'shop.pay'",
    ) == [("money", 77)]
    work.stack.worker(LEDGERQ_CELERY_APP="existing:app", LEDGERQ_WORKER_QUEUES="default,money")
    task_id = work.submit("shop.pay", queue="money", amount=21)
    assert work.ended(task_id).result == 42
    assert (work.stack.folder / "signals.txt").read_text().splitlines() == ["shop.pay"]


_PREFIXED = """
from celery import Celery
app = Celery("proj")
app.conf.task_default_queue = "default"
app.conf.broker_transport_options = {"global_keyprefix": "proj:"}
app.conf.result_backend_transport_options = {"global_keyprefix": "proj:"}

@app.task
def hello(who):
    return f"hello {who}"
"""


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_an_application_with_a_prefix_before_its_keys_is_woken_adopted_from_and_outlives_garbage(
    work: Work, redis_database: str, client: redis.Redis, pool: str
):
    (work.stack.folder / "proj.py").write_text(_PREFIXED)
    client.lpush(ticket_list("default"), b"garbage")
    worker = work.stack.worker(LEDGERQ_CELERY_APP="proj:app", LEDGERQ_WORKER_POOL=pool)
    assert work.ended(work.submit("proj.hello", who="a")).result == "hello a"
    with Celery("producer", broker=redis_database, backend=redis_database, set_as_current=False) as producer:
        producer.conf.update(task_default_queue="default")
        options = {"global_keyprefix": "proj:"}
        producer.conf.update(broker_transport_options=options, result_backend_transport_options=options)
        assert producer.send_task("proj.hello", ("b",)).get(timeout=30) == "hello b"
        assert [set(one) for one in producer.control.ping(timeout=5.0, limit=1)]
    assert work.ended(work.submit("proj.hello", who="c")).result == "hello c"
    assert client.lrange("proj:" + REFUSED + "default", 0, -1) == [b"garbage"]
    assert worker.stop() == 0
    wait.until(lambda: not client.exists("proj:" + ticket_list("default")), 5)
    assert "worker.deaf" not in worker.log()


_EXTENDED = """
from celery import Celery
app = Celery("wide")
app.conf.update(task_default_queue="default", result_extended=True, result_compression="zlib")

@app.task
def hello(who):
    return f"hello {who}"
"""


def test_extended_and_compressed_results_have_what_celery_puts_into_them(work: Work, redis_database: str):
    (work.stack.folder / "wide.py").write_text(_EXTENDED)
    work.stack.worker(LEDGERQ_CELERY_APP="wide:app")
    with Celery("producer", broker=redis_database, backend=redis_database, set_as_current=False) as producer:
        producer.conf.update(task_default_queue="default", result_extended=True, result_compression="zlib")
        result = producer.send_task("wide.hello", ("b",))
        assert result.get(timeout=30) == "hello b"
        assert (result.name, list(result.args), result.kwargs) == ("wide.hello", ["b"], {})


def test_a_type_that_no_worker_knows_waits_for_one_that_does(work: Work):
    work.stack.worker()
    task_id = work.submit("add", x=1, y=1)
    held = "SELECT reason FROM held"
    wait.until(lambda: databases.rows(work.database_url, held) == [("no_worker",)], 30, what="held")
    work.start()
    assert work.ended(task_id).result == 2


def test_what_cannot_work_is_one_line_and_exit_code_2(work: Work):
    for environment, text in (
        ({"LEDGERQ_WORKER_POOL": "gevent"}, "gevent is not supported"),
        ({"LEDGERQ_TASK_MODULES": "no_such_module"}, "there is no module 'no_such_module'"),
        ({"LEDGERQ_CELERY_APP": "custom_tasks:nothing"}, "is not a Celery application"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL: is not a PostgreSQL URL"),
    ):
        worker = work.stack.worker(**environment)
        assert worker.wait(30) == 2, worker.log()
        assert text in worker.log()
        assert "Traceback" not in worker.log()


_WITHOUT_NATIVE_CHORDS = """
from celery import Celery
app = Celery("shop", backend="db+sqlite:///results.db")
app.conf.task_default_queue = "default"

@app.task
def part(x):
    return x

@app.task
def total(parts):
    return sum(parts)
"""


def test_a_chord_is_completed_where_the_result_backend_cannot_count_its_parts(work: Work, redis_database: str):
    """Celery sends `celery.chord_unlock` for it, again and again, from a producer and from a task alike."""
    (work.stack.folder / "shop.py").write_text(_WITHOUT_NATIVE_CHORDS)
    worker = work.stack.worker(LEDGERQ_CELERY_APP="shop:app")
    with Celery("p", broker=redis_database, backend=f"db+sqlite:///{work.stack.folder}/results.db") as producer:
        producer.conf.task_default_queue = "default"
        part, total = (producer.signature(f"shop.{name}") for name in ("part", "total"))
        result = chord([part.clone((number,)) for number in (1, 2, 3)], app=producer)(total)
    wait.until(lambda: _state(work, result.id) == [("SUCCESS", "6")], 60, what=worker.log)
    ledger_checks.assert_sound(work.database_url)


def _state(work: Work, celery_id: str) -> list[tuple[object, ...]]:
    return databases.rows(
        work.database_url, "SELECT state, result::text FROM task WHERE %s IN (celery_id, id::text)", (celery_id,)
    )
