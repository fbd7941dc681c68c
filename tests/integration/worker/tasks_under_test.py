"""Task modules as users write them; put into a stack's folder as texts, because they are imported there."""

#: The users' own example, word for word but for what stands for "...".
CUSTOM = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(bind=True, base=DatabaseAwareTask)
def my_custom_task(self, param1, param2):
    self.update_progress(0, "任务开始")
    result_data = [param1, param2]
    self.update_progress(100, "任务完成")
    return {"status": "success", "data": result_data}
"""

#: One task for each thing that Celery promises.
CONTRACT = """
import gc, os, signal, time
from datetime import datetime
from celery import shared_task
from celery.exceptions import Ignore, Reject, Retry
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task
def add(x, y):
    return x + y

@shared_task
def objects_left_out_of_garbage_collection():
    return gc.get_freeze_count()

@shared_task
def total(numbers):
    return sum(numbers)

@shared_task
def echo(value=None):
    return value

@shared_task(ignore_result=True)
def silent():
    return "nobody hears this"

@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def asks_again(self):
    raise self.retry(exc=ValueError("not yet"), countdown=0.1)

@shared_task(bind=True, autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0, max_retries=1)
def retried_by_celery(self):
    if self.request.retries == 0:
        raise KeyError("first time")
    return self.request.retries

@shared_task
def fails(text):
    raise ValueError(text)

@shared_task
def exits():
    raise SystemExit(3)

@shared_task
def ignores():
    raise Ignore()

@shared_task
def rejects():
    raise Reject("no", requeue=False)

@shared_task
def returns_a_set():
    return {1, 2}

@shared_task
def returns_nan():
    return float("nan")

@shared_task(soft_time_limit=0.3)
def too_slow():
    while True:
        time.sleep(0.01)

@shared_task(time_limit=0.5)
def far_too_slow():
    time.sleep(60)

@shared_task
def far_too_slow_to_wait_for():
    time.sleep(600)

@shared_task
def kills_its_process():
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task(bind=True)
def replaced(self):
    return self.replace(add.s(20, 22))

@shared_task(bind=True, base=DatabaseAwareTask)
def steps(self, count, pause):
    for step in range(count):
        self.raise_if_cancelled()
        self.update_progress(100 * step / count, f"step {step}")
        time.sleep(pause)
    return "done"

@shared_task
def told_of_failure(*args):
    open("told.txt", "a").write("told\\n")
"""
