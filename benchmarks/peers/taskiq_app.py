"""TaskIQ with a Redis list; keeps nothing, acknowledges nothing."""

import asyncio
import os
import sys

from taskiq_redis import ListQueueBroker

from benchmarks import counting

# redis-py gives a silent connection up after five seconds, and with it TaskIQ's blocking read of an empty queue.
broker = ListQueueBroker(os.environ["BENCH_REDIS"], socket_timeout=None)


@broker.task(task_name="noop")
async def noop() -> None:
    counting.hit()


async def _fill(number: int) -> None:
    await broker.startup()
    for _ in range(number):
        await noop.kiq()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(_fill(int(sys.argv[1])))
