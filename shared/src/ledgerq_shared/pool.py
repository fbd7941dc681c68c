"""A small pool of connections that looks after them: it closes what nobody needs, and hangs up where no server is at it."""

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
from ledgerq_shared.prepared import Session
from ledgerq_shared.timers import if_longer_than
from ledgerq_shared.upkeep import Looks, at_work, cancel, look_after

#: So many looks in a row at a connection that nobody has used (one each second), and it is one too many.
_UNUSED_LOOKS = 10


class Pool:
    """Connections to one PostgreSQL database. Arguments as of :class:`~ledgerq_shared.database.Database`, and:

    Args:
        once: what a session that is ours alone is told once.
        tells_of_outages: whether it says that nobody can be connected to, and that somebody can be again.
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
        #: Whether sessions that are ours alone keep statements prepared.
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
        """One that nobody else has meanwhile.

        Args:
            timeout: seconds to wait for a free one.

        Raises:
            LedgerUnavailable: none is free, or nobody can be connected to.
        """
        if not self._slots.acquire(timeout=timeout):
            raise LedgerUnavailable("All connections to PostgreSQL are busy; try again.")
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
        """End what its server process does.

        Not by libpq's request to cancel: psycopg2 holds the GIL meanwhile, for ever where the server is frozen.
        """
        with contextlib.suppress(psycopg2.Error), self._asking() as asking:
            cancel(asking, connection)

    def look(self) -> None:
        """Close what nobody needs, hang up where nobody is at it. Done once a second by :mod:`ledgerq_shared.upkeep`."""
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
            # Who needs one takes that which was used last.
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
                return  # nobody answers: there is nobody to turn to
        for connection in silent:
            if connection not in found:
                connection.hang_up()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection beside the pool's, to whoever is the primary now. It waits for no answer for long."""
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
                # A host that vanished is noticed in seconds, not after the kernel's two hours.
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
        """A new connection is in use."""
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
            # After a restart of PostgreSQL every pooled connection is dead: do not make each caller find one out.
            self.close()
            return
        with self._lock:
            self._free.append(connection)


def reason(error: psycopg2.Error) -> str:
    """Why the ledger cannot be had, in one line."""
    what = describe(error)
    if error.pgcode is None:
        return f"PostgreSQL cannot be reached: {what}"
    return f"PostgreSQL does not take this now: {what} (SQLSTATE {error.pgcode})"
