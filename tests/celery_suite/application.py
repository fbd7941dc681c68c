"""The application that both workers run: Celery's own test tasks. It imports nothing of LedgerQ."""

import json
import os

from celery import Celery
from celery.signals import task_received, task_success

app = Celery("celery.tests", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])
app.conf.update(
    worker_hijack_root_logger=False,
    worker_log_color=False,
    accept_content={"json"},
    enable_utc=True,
    timezone="UTC",
    broker_heartbeat=0,
    result_extended=True,
    task_create_missing_queues=False,
    include=["t.integration.tasks"],
)
app.set_default()
from t.integration.tasks import ClassBasedAutoRetryTask, get_redis_connection  # noqa: E402  (they need the default app)

app.register_task(ClassBasedAutoRetryTask)


# Some tests look into the worker's own process: it tells of itself through Redis.
@task_received.connect(weak=False)
def _tell_received(request=None, **_):
    get_redis_connection().rpush("suite:relay", json.dumps(["received", request.id, request.replaced_task_nesting]))


@task_success.connect(weak=False)
def _tell_success(sender=None, **_):
    get_redis_connection().rpush("suite:relay", json.dumps(["success", sender.request.id, 0]))
