"""A small pool of connections. It closes connections that nobody needs, and connections on whose statement no server
process works.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator

import psycopg2
import psycopg2.extensions

from ledgerq_shared import outages
from ledgerq_shared.connecting import connect, describe
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.languages import Said, say
from ledgerq_shared.postgres.prepared import Session
from ledgerq_shared.postgres.upkeep import Looks, at_work, cancel, look_after
from ledgerq_shared.process.timers import if_longer_than

#: After this many looks in a row (one each second) at which nobody used a connection, the connection is not needed.
_UNUSED_LOOKS = 10


class Pool:
    """Connections to one PostgreSQL database. It takes what :class:`~ledgerq_shared.postgres.database.Database` takes, and:

    Args:
        once: settings that a session gets once, if only we use it.
        tells_of_outages: whether it logs that no server can be reached, and that one can be reached again.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        size: int,
        connect_timeout: int,
        once: str,
        keeps_statements: bool,
        unanswered_after: float,
        checks_socket: bool,
        is_replica: bool,
        tells_of_outages: bool,
        answers_within: float,
        waits_for_work: bool,
        spare: Callable[[], int] | None,
    ) -> None:
        #: Whether sessions that only we use keep statements prepared.
        self.keeps_statements = keeps_statements
        self._url = url
        self._application_name = application_name
        self._connect_timeout = connect_timeout
        self._once = once
        self._unanswered_after = unanswered_after
        self._checks_socket = checks_socket
        self._is_replica = is_replica
        self._tells_of_outages = tells_of_outages
        self._answers_within = math.ceil(answers_within)  # looks are counted
        self._waits_for_work = waits_for_work and not is_replica
        self._spare = spare
        self._looks: Looks | None = None
        self._free: list[Session] = []
        self._busy: set[Session] = set()
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(size)

    @contextlib.contextmanager
    def session(self, timeout: float) -> Iterator[Session]:
        """A connection that nobody else uses meanwhile.

        Args:
            timeout: seconds to wait for a free connection.

        Raises:
            LedgerUnavailable: none is free, or no server can be reached.
        """
        if not self._slots.acquire(timeout=timeout):
            raise LedgerUnavailable(say("All connections to PostgreSQL are busy; try again."))
        try:
            connection = self._kept() or self._made()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def cancel(self, connection: Session) -> None:
        """End what the connection's server process does.

        This does not use libpq's request to cancel: psycopg2 holds the GIL during that request, for ever if the server
        is frozen.
        """
        with contextlib.suppress(psycopg2.Error), self._asking() as asking:
            cancel(asking, connection)

    def look(self) -> None:
        """Close connections that nobody needs, and those on whose statement no server process works.
        :mod:`ledgerq_shared.postgres.upkeep` calls this once a second.
        """
        assert self._looks is not None
        with self._lock:
            free, busy = list(self._free), list(self._busy)
        looks = self._looks.count([*free, *busy])
        if self._spare is not None and free:
            self._close_unused(looks, self._spare())
        late = {connection: looks[connection] - 1 for connection in busy}
        silent = [one for one, seconds in late.items() if seconds and seconds % self._answers_within == 0]
        if silent:
            self._hang_up(silent)

    def _close_unused(self, looks: dict[Session, int], spare: int) -> None:
        with self._lock:
            # A caller takes the connection that was used last.
            beyond = self._free[: max(len(self._free) - spare, 0)]
            unused = [connection for connection in beyond if looks.get(connection, 0) > _UNUSED_LOOKS]
            self._free = [connection for connection in self._free if connection not in unused]
        for connection in unused:
            connection.close()

    def _hang_up(self, silent: list[Session]) -> None:
        found: set[Session] = set()
        if self._waits_for_work:
            try:
                with self._asking() as asking:
                    found = at_work(asking, silent)
            except psycopg2.Error:
                return  # no server answers, so there is no other server to use
        for connection in silent:
            if connection not in found:
                connection.hang_up()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection outside of the pool, to the server that is the primary now. It does not wait long for an
        answer.
        """
        asking = connect(
            self._url,
            application_name=self._application_name,
            connect_timeout=self._connect_timeout,
            factory=Session,
        )
        assert isinstance(asking, Session)
        try:
            asking.autocommit = True
            with if_longer_than(self._connect_timeout, asking.hang_up):
                yield asking
        finally:
            asking.close()

    def _kept(self) -> Session | None:
        with self._lock:
            while self._free:
                connection = self._free.pop()
                if connection.is_usable:
                    connection.uses += 1
                    self._busy.add(connection)
                    return connection
        return None

    def _made(self) -> Session:
        try:
            made = connect(
                self._url,
                application_name=self._application_name,
                connect_timeout=self._connect_timeout,
                # So a host that has vanished is noticed in seconds, and not after the kernel's two hours.
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=round(self._unanswered_after * 1000),
                client_encoding="UTF8",
                factory=Session,
                is_replica=self._is_replica,
            )
            assert isinstance(made, Session)
            if self._checks_socket:
                made.remember_socket()
            made.autocommit = True  # BEGIN and COMMIT are ours
            self._watch(made)
            if self.keeps_statements:
                try:
                    made.make_ours_if_possible(self._once)
                except BaseException:
                    self._busy.discard(made)
                    raise
        except psycopg2.Error as error:
            unavailable = LedgerUnavailable(reason(error))
            if self._tells_of_outages:
                outages.POSTGRESQL.failed(unavailable.detail)
                unavailable.is_told = True
            raise unavailable from error
        if outages.POSTGRESQL.is_on and not self._is_replica:
            outages.POSTGRESQL.worked()
        return made

    def _watch(self, connection: Session) -> None:
        """Note that a new connection is in use."""
        with self._lock:
            self._busy.add(connection)
            is_first = self._looks is None
            self._looks = self._looks or Looks()
        if is_first:
            look_after(self)

    def _give_back(self, connection: Session) -> None:
        self._busy.discard(connection)
        connection.uses += 1
        if connection.closed:
            # After a restart of PostgreSQL every pooled connection is dead: close all, so that not every caller meets a
            # dead one.
            self.close()
            return
        with self._lock:
            self._free.append(connection)


def reason(error: psycopg2.Error) -> Said:
    """Why the ledger cannot be reached, in one line."""
    what = describe(error)
    if error.pgcode is None:
        return say("PostgreSQL cannot be reached: {what}", what=what)
    return say("PostgreSQL does not take this now: {what} (SQLSTATE {code})", what=what, code=error.pgcode)
