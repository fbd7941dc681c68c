"""Runs a worker node: Celery's own worker, which gets tickets and has our seams in place."""

from __future__ import annotations

import logging
import os
import warnings
from functools import partial
from typing import Any

import structlog
from celery import Celery, signals
from celery.exceptions import SecurityWarning

from ledgerq_shared.ids import use_cell
from ledgerq_shared.process import heap
from ledgerq_shared.process.metrics import serve
from ledgerq_shared.process.tracing import flush_spans, start_tracing
from ledgerq_shared.settings import LogSettings, MetricsSettings, SettingsError, StoreSettings, TracingSettings, load
from ledgerq_worker.catalogue.acknowledged import acknowledged_types
from ledgerq_worker.celery import client, redis_sockets
from ledgerq_worker.celery.adopt import Adoption
from ledgerq_worker.celery.app import build_app, limits_belong_to_tasks
from ledgerq_worker.celery.control_panel import ControlPanel
from ledgerq_worker.celery.fitness import check_settings, check_tasks
from ledgerq_worker.celery.seams import backend, channels, consumer, drain_task, sayings, strangers
from ledgerq_worker.celery.seams.lean_tracer import leave_out_successes
from ledgerq_worker.celery.seams.prefork import WatchfulTaskPool, ready_processes, unaccepted_jobs
from ledgerq_worker.celery.sending import Submitter
from ledgerq_worker.celery.task_events import NodeEvents
from ledgerq_worker.drain.process import PoolProcess
from ledgerq_worker.heartbeat import first_beat
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.deafness import ConsumerHandle
from ledgerq_worker.node.ending import Ending
from ledgerq_worker.node.metrics import registry_of
from ledgerq_worker.node.node import Node, hostname
from ledgerq_worker.node.slot_standstill import Unaccepted
from ledgerq_worker.settings import WorkerSettings
from ledgerq_worker.slot.table import SlotTable
from ledgerq_worker.slot.tally import TallySheet
from ledgerq_worker.stores import Stores

log = structlog.get_logger()

#: Seconds that a pool process may take to start, because it may load a model. Celery would kill it after four, again
#: and again.
_BEGINS_WITHIN = 600.0


def run_worker(stores: StoreSettings, settings: WorkerSettings, logs: LogSettings) -> None:
    """Run until SIGTERM or SIGINT. Running tasks then have ``grace_seconds`` to end; tasks that have not begun are
    handed back.
    """
    # The name contains this process's number, so pool processes must not make names of their own.
    settings = settings.model_copy(update={"worker_name": settings.name})
    first_beat(settings.heartbeat_file)
    start_tracing(load(TracingSettings), service="worker")
    app = build_app(
        stores,
        celery_app=settings.celery_app,
        task_modules=settings.task_modules,
        default_queue=settings.queues[0],
        check=partial(
            check_settings, broker_url=stores.broker_url, pool_is_given="worker_pool" in settings.model_fields_set
        ),
    )
    check_tasks(app)
    limits_belong_to_tasks(app)
    table = SlotTable.create(settings.slots)
    acknowledged = acknowledged_types(app, settings.on_worker_lost)
    node = Node(table, _config(app, stores, settings, logs, table, acknowledged))
    sheet = TallySheet(settings.slots)
    adoption = _install(app, stores, settings, logs, node, sheet, acknowledged)
    _configure_celery(app)
    ending = Ending(node, settings.grace_seconds)
    events = NodeEvents(app, table, hostname=settings.celery_name)
    _follow_celery(node, ending, adoption, events, settings)
    try:
        serve(registry_of(node, sheet), load(MetricsSettings))
    except SettingsError:
        table.remove()
        raise
    node.start()
    log.info("worker.starting", worker=settings.name, pool=settings.worker_pool, slots=settings.slots)
    try:
        worker = app.Worker(
            hostname=settings.celery_name,
            pool=WatchfulTaskPool if settings.worker_pool == "prefork" else settings.worker_pool,
            concurrency=settings.slots,
            queues=drain_task.queues_of_tickets(app, settings.queues),
            loglevel=logs.log_level.upper(),
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            quiet=True,
        )
        heap.freeze()  # before the pool forks
        worker.start()
    finally:
        node.stopping()
        adoption.stop()
        events.stop()
        node.stopped()
        flush_spans()
    if code := worker.exitcode or ending.exit_code:  # its supervisor has to start another one
        raise SystemExit(code)


def _config(
    app: Celery,
    stores: StoreSettings,
    settings: WorkerSettings,
    logs: LogSettings,
    table: SlotTable,
    acknowledged: list[str],
) -> NodeConfig:
    return NodeConfig(
        database_url=stores.database_url,
        broker_url=stores.broker_url,
        name=settings.name,
        host=hostname(),
        parent_pid=os.getpid(),
        pool=settings.worker_pool,
        slots=settings.slots,
        queues=settings.queues,
        task_types=sorted(app.tasks),
        lease=settings.lease_seconds,
        quarantine_after=settings.quarantine_after,
        table=str(table.path),
        heartbeat_file=str(settings.heartbeat_file.absolute()) if settings.heartbeat_file else None,
        kills_programs=settings.kill_programs,
        log_level=logs.log_level,
        log_format=logs.log_format,
        debug=logs.debug,
        acknowledged=acknowledged,
    )


def _install(
    app: Celery,
    stores: StoreSettings,
    settings: WorkerSettings,
    logs: LogSettings,
    node: Node,
    sheet: TallySheet,
    acknowledged: list[str],
) -> Adoption:
    """Put the seams in place; see :mod:`ledgerq_worker.celery.seams`. Returns the objects that have to be started."""
    use_cell(stores.ledgerq_cell)
    connections = Stores(stores, f"ledgerq-worker {settings.name}", debug=logs.debug)
    submitter = Submitter(lambda: connections.connect(spare=lambda: 0))
    actor = f"worker:{settings.name}"
    channels.let_channels_close()
    strangers.be_careful()
    sayings.log_sayings()
    redis_sockets.watch()
    backend.install_backend(app)
    client.install_for_all(app, submitter, actor=actor)
    pool_process = PoolProcess(app, connections, settings, node.table, sheet, acknowledged=frozenset(acknowledged))
    drain_task.install_drain(app, pool_process.drain, node.lost)
    panel = ControlPanel(
        app,
        node.table,
        lambda: connections.connect(1, spare=lambda: 0)[0],
        hostname=settings.celery_name,
        actor="celery",
    )
    panel.install()
    return Adoption(app, submitter, settings.queues, actor="celery")


def _configure_celery(app: Celery) -> None:
    # As root, Celery warns of pickle, which LedgerQ never reads.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.conf.update(
        # Tickets are interchangeable, so a ticket in a worker's memory holds nothing up.
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_acks_late=False,
        # Redis may refuse for a while (a replica, a full disk): the consumer connects anew, and does not end the worker.
        broker_channel_error_retry=True,
        worker_consumer=consumer.NAME,
        worker_proc_alive_timeout=max(app.conf.worker_proc_alive_timeout or 0.0, _BEGINS_WITHIN),
        # Celery would ask Redis whether the task has succeeded before; here the ledger knows that.
        worker_deduplicate_successful_tasks=False,
        worker_send_task_events=False,
    )


def _follow_celery(
    node: Node, ending: Ending, adoption: Adoption, events: NodeEvents, settings: WorkerSettings
) -> None:
    """Let Celery tell us when its worker begins and ends."""
    # Celery would add log handlers of its own.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        leave_out_successes()
    signals.worker_ready.connect(ending.take_over_signals, weak=False)
    signals.worker_ready.connect(
        lambda sender, **_: _watch_consumer(node, sender, ending, kills_programs=settings.kill_programs), weak=False
    )
    signals.worker_process_shutdown.connect(lambda **_: flush_spans(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: node.stopping(), weak=False)
    signals.worker_ready.connect(lambda **_: adoption.start(), weak=False)
    signals.worker_ready.connect(lambda **_: events.start(), weak=False)


def _watch_consumer(node: Node, listener: Any, ending: Ending, *, kills_programs: bool) -> None:
    """Let the node notice that Celery's consumer takes no tickets, and connect it anew."""
    pool, count = listener.pool, node.table.count
    is_prefork = isinstance(pool, WatchfulTaskPool)
    consumer.tell_of_errors(listener, node.reconnect.met_error)
    if is_prefork:
        node.unaccepted = Unaccepted(node.table, partial(unaccepted_jobs, pool), kills_programs=kills_programs)
    node.reconnect.hearing = ConsumerHandle(
        hang_up=partial(channels.hang_up, listener),
        give_up=ending.give_up_node,
        ready_slots=partial(ready_processes, pool) if is_prefork else lambda: count,
    )
