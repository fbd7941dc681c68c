"""The maintenance process. While it leads, recovery runs in one thread and all other duties run in another.

Recovery has a connection of its own and uses only PostgreSQL, so nothing else can hold it up.
"""

from __future__ import annotations

import ledgerq_shared.process.lean_imports  # noqa: F401 - comes first  # isort: skip

import signal
import threading
import time
from collections.abc import Callable

import structlog

from ledgerq_shared import outages
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.process.metrics import serve
from ledgerq_shared.process.signals import treat_as_sigterm
from ledgerq_shared.settings import LogSettings, MetricsSettings, StoreSettings, load
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.heartbeat import Heartbeat, first_beat
from ledgerq_worker.maintenance import metrics
from ledgerq_worker.maintenance.dispatcher import Expire, Promote, Sweep
from ledgerq_worker.maintenance.housekeeping import FoldCounts, ForgetKeys, MakePartitions
from ledgerq_worker.maintenance.leader import Leadership
from ledgerq_worker.maintenance.loop import Duty, Round
from ledgerq_worker.maintenance.outbox_duty import EmptyOutbox
from ledgerq_worker.maintenance.pulse import Pulse
from ledgerq_worker.maintenance.reaper import ForgetWorkers, Reap
from ledgerq_worker.maintenance.work import Work
from ledgerq_worker.settings import MaintenanceSettings
from ledgerq_worker.stores import Stores

log = structlog.get_logger()

_TRY_AGAIN_AFTER = 0.5
#: Seconds that a duty waits for a lock at most; then it gives way to the others and tries again.
_LOCK_TIMEOUT = 1.0
#: Seconds that the process waits at its end for the running duty.
_FAREWELL = 2.0
#: A round may have much to do, and a PostgreSQL that hangs can hold it up for a while. A round that takes longer than
#: this many seconds is assumed never to end, and the heartbeat stops.
_STUCK_AFTER = 300.0


def run_maintenance(stores: StoreSettings, settings: MaintenanceSettings, logs: LogSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    first_beat(settings.heartbeat_file)
    connections = Stores(stores, "ledgerq-maintenance", debug=logs.debug, lock_timeout=_LOCK_TIMEOUT)
    recovery, _ = connections.connect(1)
    database, waker = connections.connect(2)
    pulse = Pulse(settings.lease_seconds / 2)
    leadership = Leadership(recovery, lease=settings.leader_seconds, pulse=pulse)
    serve(metrics.registry, load(MetricsSettings))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    treat_as_sigterm()
    log.info("maintenance.started")
    outbox = EmptyOutbox(every=2.0)
    work = Work(leadership, _rounds(database, waker, outbox, settings))
    reap = Reap(
        recovery,
        leadership,
        every=1.0,
        lease=settings.lease_seconds,
        quarantine_after=settings.quarantine_after,
        taken_back=lambda: work.nudge(first=True),
    )
    progress = _Progress(work)
    Heartbeat(settings.heartbeat_file, progress.is_recent).start()
    pulse.start()
    work.start()
    _run(leadership, [Round(reap)], ended, progress, leads_on=work.nudge)
    work.stop(_FAREWELL)
    outbox.stop()
    try:
        leadership.give_up()
    except Unavailable as error:
        log.warning("maintenance.leadership_not_given_up", error=error.detail)


class _Progress:
    """When recovery and the other duties last made progress."""

    def __init__(self, work: Work | None = None) -> None:
        self._at = time.monotonic()
        self._work = work

    def note(self) -> None:
        self._at = time.monotonic()

    def is_recent(self) -> bool:
        work_since = self._work.busy_since if self._work is not None else None
        return time.monotonic() - min(self._at, work_since or self._at) < _STUCK_AFTER


def _run(
    leadership: Leadership,
    rounds: list[Round],
    ended: threading.Event,
    progress: _Progress,
    leads_on: Callable[[], None] = lambda: None,
) -> None:
    led = False
    while not ended.is_set():
        progress.note()
        try:
            leads = leadership.leads()
            metrics.leads.set(leads)
            if leads != led:
                log.info("maintenance.leads" if leads else "maintenance.stands_by")
                led = leads
            if leads:
                leads_on()
            for one in rounds if leads else ():
                one.run_if_due(time.monotonic())
            due_at = min([leadership.asks_at, *(one.due_at for one in rounds if leads)])
            pause = due_at - time.monotonic()
        except Unavailable as error:
            outages.note("maintenance.ledger_unavailable", error)
            if not error.is_busy:  # it does answer
                leadership.lost_touch()
            metrics.leads.set(leadership.is_leading)
            pause = _TRY_AGAIN_AFTER
        ended.wait(max(pause, 0.0))


def _rounds(database: Database, waker: Waker, outbox: EmptyOutbox, settings: MaintenanceSettings) -> list[Round]:
    """The rounds of all duties, the sweep first."""
    found: dict[str, Duty] = {"expire": Expire(database, every=1.0), "outbox": outbox}
    promote = Round(Promote(database, waker))
    others: list[Duty] = [
        FoldCounts(database),
        MakePartitions(database),
        ForgetWorkers(database),
        ForgetKeys(database, idempotency_hours=settings.idempotency_hours),
    ]
    sweep = Round(Sweep(database, waker, found, promote, every=settings.sweep_seconds))
    return [sweep, promote, *(Round(duty) for duty in others)]
