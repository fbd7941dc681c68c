"""Dramatiq on Redis, its default middleware without Prometheus; keeps nothing."""

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import counting

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> None:
    counting.hit()


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        noop.send()
