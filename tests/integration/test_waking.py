"""A process wakes workers, and knows whether it can."""

from __future__ import annotations

from ledgerq_shared import outages
from ledgerq_shared.broker import Broker
from ledgerq_shared.embedded import EmbeddedServers
from ledgerq_shared.tasks.waking import Waker
from tests.support import wait


def test_a_process_that_has_nothing_more_to_send_learns_that_redis_is_back(own_servers: EmbeddedServers):
    """Its metric would go on saying that Redis is away, and the alert would go on firing."""
    waker = Waker(list, Broker(own_servers.valkey.start(), client_name="test-waking", timeout=0.5))
    try:
        own_servers.valkey.stop()
        waker.wake({"q": 1})
        wait.until(lambda: outages.REDIS.is_on, 10, what="the outage is known")
        own_servers.valkey.start()
        wait.until(lambda: not outages.REDIS.is_on, 10, what="its end is known, too")
    finally:
        waker.close()
        outages.REDIS.forget()
