"""Supervisors differ in what they send to a service."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support import http

if TYPE_CHECKING:
    from tests.support.stack import Running, Stack

_STRAYS = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_service_ends_in_order_by_each_signal_that_means_the_end_and_by_no_other(
    stack: Stack, database: str, redis_database: str, number: int
):
    maintenance = stack.maintenance()
    standing: list[Running] = [stack.api(), stack.monitor(), stack.flower(), maintenance]
    maintenance.says("maintenance.started")
    for running in standing:
        for stray in _STRAYS:
            running.send(stray)
    # Signals of one process arrive in no certain order, so a process that still answers has outlived them.
    assert all(http.answers(f"{running.url}/livez") for running in standing[:2])
    assert all(running.alive() for running in standing), stack.logs()
    for running in standing:
        running.send(number)
    codes = {running.name: running.wait() for running in standing}
    # The monitor's server raises SIGTERM again when it has stopped, as ever.
    assert set(codes.values()) <= {0, -signal.SIGTERM}, codes
    assert codes["api"] == codes["maintenance"] == 0
