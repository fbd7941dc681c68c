"""Raw Celery on Redis: `python -m benchmarks.peers.celery_app [task] N` fills its queue."""

import os
import sys

from celery import Celery

from benchmarks import counting

app = Celery("raw", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
# Its documentation's advice for many small tasks: a larger prefetch; acks stay early, as they are by default.
app.conf.worker_prefetch_multiplier = int(os.environ.get("BENCH_PREFETCH", "64"))
app.conf.worker_hijack_root_logger = False


@app.task(name="noop", ignore_result=True)
def noop() -> None:
    counting.hit()


@app.task(name="noop_result")
def noop_result() -> None:
    counting.hit()


if __name__ == "__main__":
    task = noop_result if sys.argv[1] == "noop_result" else noop
    with app.producer_pool.acquire() as producer:
        for _ in range(int(sys.argv[-1])):
            task.apply_async(producer=producer)
