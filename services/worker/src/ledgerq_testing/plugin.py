"""The pytest plugin: ``ledgerq`` runs tasks in the test; ``ledgerq_servers`` are the servers behind it.

The task modules are those of ``LEDGERQ_TASK_MODULES`` and ``LEDGERQ_CELERY_APP``, from the environment or from `.env` of
the project's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # a session without any of these fixtures loads nothing of LedgerQ
    from ledgerq_shared.embedded.servers import Urls
    from ledgerq_testing.eager import EagerLedger


def pytest_configure(config: pytest.Config) -> None:
    """What redis-py says about a command of ours is nothing that the user's tests can change."""
    config.addinivalue_line("filterwarnings", "ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture(scope="session")
def ledgerq_servers() -> Iterator[Urls]:
    """A PostgreSQL with the ledger's tables, and a Valkey, for this session: ``database_url`` and ``redis_url``."""
    from ledgerq_testing.servers import running_servers

    with running_servers() as urls:
        yield urls


@pytest.fixture(scope="session")
def ledgerq_session(ledgerq_servers: Urls, pytestconfig: pytest.Config) -> Iterator[EagerLedger]:
    """The session's ledger, with whatever tests have left in it: use ``ledgerq``."""
    from dotenv import dotenv_values

    from ledgerq_testing.eager import EagerLedger

    settings = {**dotenv_values(pytestconfig.rootpath / ".env"), **os.environ}
    ledger = EagerLedger(
        ledgerq_servers,
        task_modules=settings.get("LEDGERQ_TASK_MODULES") or "",
        celery_app=settings.get("LEDGERQ_CELERY_APP") or None,
        folder=pytestconfig.rootpath,
    )
    yield ledger
    ledger.close()


@pytest.fixture
def ledgerq(ledgerq_session: EagerLedger) -> EagerLedger:
    """A ledger without tasks. ``ledgerq.submit("my_tasks.resize", width=3)`` runs a task in the test."""
    ledgerq_session.reset()
    return ledgerq_session
