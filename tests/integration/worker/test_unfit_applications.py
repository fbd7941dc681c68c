"""An application whose configuration cannot work is refused at the worker's start, in one line."""

from __future__ import annotations

import pytest

from tests.support.stack import Stack

UNFIT = {
    "a setting": ("app.conf.task_serializer = 'pickle'", "its task_serializer is 'pickle'"),
    "another redis": ("app.conf.broker_url = 'redis://127.0.0.1:1/0'", "names another Redis (127.0.0.1:1/0)"),
    "a task": (
        "class Batches(Task):\n    def Strategy(self, *a, **k): ...\n@app.task(base=Batches)\ndef t(): ...",
        "task shop.t has a Strategy of its own",
    ),
}

FIT = """
app.conf.update(accept_content=["json", "pickle"], task_serializer="json", broker_url=OURS.replace("127.0.0.1", "localhost"))
"""


def write(stack: Stack, text: str) -> None:
    ours = stack.environment["REDIS_URL"]
    (stack.folder / "shop.py").write_text(
        f"from celery import Celery, Task\nOURS = {ours!r}\napp = Celery('shop', broker=OURS)\n{text}\n"
    )


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_work_is_refused_in_one_line(stack: Stack, database: str, redis_database: str, name: str):
    text, said = UNFIT[name]
    write(stack, text)
    worker = stack.worker(LEDGERQ_CELERY_APP="shop:app")
    assert worker.wait(60) == 2, worker.log()
    [line] = worker.log().splitlines()
    assert line.startswith("ledgerq-worker: LEDGERQ_CELERY_APP: the application cannot run here: ")
    assert said in line


def test_an_application_with_the_same_broker_under_another_name_runs(stack: Stack, database: str, redis_database: str):
    write(stack, FIT)
    stack.worker(LEDGERQ_CELERY_APP="shop:app").says("ready.")


def test_a_pool_that_somebody_has_chosen_counts_and_not_the_applications(
    stack: Stack, database: str, redis_database: str
):
    write(stack, "app.conf.worker_pool = 'gevent'")
    stack.worker(LEDGERQ_CELERY_APP="shop:app", LEDGERQ_WORKER_POOL="threads").says("ready.")
