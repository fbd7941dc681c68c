"""How the worker's processes reach PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledgerq_shared.broker import Broker
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.dispatch import slots_by_queue
from ledgerq_shared.tasks.waking import Waker


@dataclass(frozen=True)
class Stores:
    """Where the stores are and how a process of the worker connects to them."""

    settings: StoreSettings
    #: Shown in ``pg_stat_activity`` and ``CLIENT LIST``.
    name: str
    debug: bool = False
    #: How long a statement waits for a lock, in seconds.
    lock_timeout: float = 3.0

    def connect(self, size: int = 2, spare: Callable[[], int] | None = None) -> tuple[Database, Waker]:
        """A database pool of ``size`` connections, of which ``spare`` stay open while unused, and the object that wakes
        workers.
        """
        database = Database(
            self.settings.database_url,
            application_name=self.name,
            size=size,
            debug=self.debug,
            lock_timeout=self.lock_timeout,
            keeps_statements=True,
            checks_socket=True,
            spare=spare,
        )
        broker = Broker(self.settings.broker_url, client_name=self.name)
        return database, Waker(lambda: database.fetch(slots_by_queue()), broker)
