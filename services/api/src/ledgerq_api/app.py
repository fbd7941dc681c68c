"""Puts the API together. It opens no connection and starts no thread before the first request needs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

import ledgerq_api.health.endpoints
import ledgerq_api.queues.endpoints
import ledgerq_api.scaling.endpoints
import ledgerq_api.stream.endpoints
import ledgerq_api.task_types.endpoints
import ledgerq_api.tasks.action_endpoints
import ledgerq_api.tasks.endpoints
import ledgerq_api.workers.endpoints
from ledgerq_api import __version__, docs_page, documentation, guide, metrics
from ledgerq_api.answers import problems
from ledgerq_api.answers.languages import SUBMIT_DEFAULT
from ledgerq_api.auth.gate import Gate
from ledgerq_api.auth.keyring import Keyring
from ledgerq_api.catalogue_source import CatalogueSource
from ledgerq_api.health import schemas as health_schemas
from ledgerq_api.health.service import HealthService
from ledgerq_api.ledger import LIST_SECONDS, LOOKS, Ledger
from ledgerq_api.queues import schemas as queue_schemas
from ledgerq_api.queues.naming import QueueNames
from ledgerq_api.queues.pausing import QueuePauses
from ledgerq_api.queues.service import QueueService
from ledgerq_api.requests.access_log import AccessLog
from ledgerq_api.requests.lean import LeanPaths
from ledgerq_api.requests.middleware import RequestEdge
from ledgerq_api.requests.prefix import Proxied
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.scaling import schemas as scaling_schemas
from ledgerq_api.scaling.service import ScalingService
from ledgerq_api.settings import ApiSettings
from ledgerq_api.stream import lean_paths as stream_paths
from ledgerq_api.stream.feed import Feed
from ledgerq_api.stream.service import StreamService
from ledgerq_api.task_types import schemas as task_type_schemas
from ledgerq_api.task_types.service import TaskTypeService
from ledgerq_api.tasks import action_schemas
from ledgerq_api.tasks import lean_paths as task_paths
from ledgerq_api.tasks import schemas as task_schemas
from ledgerq_api.tasks.actions import TaskActions
from ledgerq_api.tasks.commits import Commits
from ledgerq_api.tasks.reading import TaskReader
from ledgerq_api.tasks.service import TaskService
from ledgerq_api.tasks.submitting import Submitting
from ledgerq_api.workers import schemas as worker_schemas
from ledgerq_api.workers.service import WorkerService
from ledgerq_shared.broker import Broker
from ledgerq_shared.hosts import Hosts
from ledgerq_shared.ids import use_cell
from ledgerq_shared.languages import DEFAULT
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.replica import Replica, open_replica
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.dispatch import slots_by_queue
from ledgerq_shared.tasks.waking import Waker

#: One for each thread that uses the database: submits, two for batches, statuses, streams, wake-ups, keys, health,
#: three readers, four that read lists, and one that checks whether the ledger went back in time.
_CONNECTIONS = 16
#: In seconds. A request may wait a few times as long, and the requests that share its commit wait with it.
_LOCK_TIMEOUT = 1.0

_WIRE_TYPES = [
    *task_schemas.WIRE_TYPES,
    *action_schemas.WIRE_TYPES,
    *queue_schemas.CHANGE_TYPES,
    *task_type_schemas.WIRE_TYPES,
    *health_schemas.WIRE_TYPES,
    *queue_schemas.WIRE_TYPES,
    *scaling_schemas.WIRE_TYPES,
    *worker_schemas.WIRE_TYPES,
]


@dataclass(frozen=True, slots=True)
class Services:
    """The services that answer the calls; all services of one process share one connection pool."""

    database: Database
    broker: Broker
    ledger: Ledger
    keyring: Keyring
    waker: Waker
    submitting: Submitting
    tasks: TaskService
    actions: TaskActions
    streams: StreamService
    task_types: TaskTypeService
    health: HealthService
    queues: QueueService
    pauses: QueuePauses
    scaling: ScalingService
    workers: WorkerService

    def stop_waiting(self) -> None:
        """Answer the clients that long-poll, and end the streams."""
        self.tasks.stop_waiting()
        self.streams.feed.stop()

    async def close(self) -> None:
        """Let work that has begun end, then disconnect."""
        await self.streams.feed.close()
        await self.submitting.close()
        await self.tasks.close()
        self.waker.close()
        self.health.close()
        self.keyring.close()
        self.ledger.close()
        self.broker.close()
        self.database.close()


def build_services(stores: StoreSettings, settings: ApiSettings, *, debug: bool = False) -> Services:
    """Wire the services to the stores."""
    use_cell(stores.ledgerq_cell)
    database = Database(
        stores.database_url,
        application_name="ledgerq-api",
        size=_CONNECTIONS,
        debug=debug,
        lock_timeout=_LOCK_TIMEOUT,
        keeps_statements=True,
    )
    broker = Broker(stores.broker_url, client_name="ledgerq-api")
    replica = replica_of(stores, database, debug=debug)
    ledger = Ledger(database, timeout=settings.ledger_timeout, replica=replica)
    waker = Waker(lambda: ledger.rows(slots_by_queue()), Broker(stores.broker_url, client_name="ledgerq-api"))
    catalogue = CatalogueSource(ledger)
    reader = TaskReader(ledger)
    health = HealthService(ledger, broker)
    commits = Commits(database, waker, timeout=settings.ledger_timeout, resend_seconds=settings.resend_seconds)
    names = QueueNames(ledger, most=settings.queues_per_key)
    submitting = Submitting(ledger, catalogue, commits, names)
    return Services(
        database=database,
        broker=broker,
        ledger=ledger,
        keyring=Keyring(ledger, is_open=settings.is_open),
        waker=waker,
        submitting=submitting,
        tasks=TaskService(ledger, catalogue, reader),
        actions=TaskActions(ledger, submitting, waker, health.failing),
        streams=StreamService(reader, Feed(ledger)),
        task_types=TaskTypeService(ledger, catalogue),
        health=health,
        queues=QueueService(ledger),
        pauses=QueuePauses(ledger, waker, names),
        scaling=ScalingService(ledger),
        workers=WorkerService(ledger),
    )


def replica_of(stores: StoreSettings, ledger: Database, *, debug: bool = False) -> Replica | None:
    """The replica of ``ledger``, not connected yet; None if none is configured."""
    return open_replica(
        stores, ledger, application_name="ledgerq-api", size=LOOKS, statement_timeout=LIST_SECONDS, debug=debug
    )


def create_app(services: Services, settings: ApiSettings) -> FastAPI:
    """The ASGI application around ``services``, which it closes when it shuts down."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await services.close()

    app = FastAPI(
        title="LedgerQ",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page runs a script from another server
        redoc_url=None,
        # Starlette would build an absolute http address from the caller's `Host`: a key might then be sent unencrypted.
        redirect_slashes=False,
        # It would run on every request; our metrics are Prometheus's and our logs are structlog's.
        telemetry={"metrics": False, "logs": False},
    )
    app.router.route_class = CheckedRoute
    app.include_router(ledgerq_api.tasks.endpoints.router(services.tasks))
    app.include_router(ledgerq_api.tasks.action_endpoints.router(services.actions, locale=settings.locale or DEFAULT))
    app.include_router(ledgerq_api.task_types.endpoints.router(services.task_types))
    app.include_router(ledgerq_api.queues.endpoints.router(services.queues, services.pauses))
    app.include_router(
        ledgerq_api.scaling.endpoints.router(
            services.scaling,
            drain_seconds=settings.scaling_drain_seconds,
            run_seconds=settings.scaling_run_seconds,
        )
    )
    app.include_router(ledgerq_api.workers.endpoints.router(services.workers))
    app.include_router(ledgerq_api.health.endpoints.router(services.health))
    app.add_api_route("/", _to_docs, include_in_schema=False)
    docs_page.install(app)
    guide.install(app)
    lean_routes = [
        *ledgerq_api.tasks.endpoints.lean_routes(
            services.submitting, services.tasks, services.keyring, locale=settings.locale or SUBMIT_DEFAULT
        ),
        *ledgerq_api.stream.endpoints.lean_routes(services.streams, services.keyring),
    ]
    app.add_middleware(LeanPaths, routes=lean_routes)  # middleware that is added later comes before it
    app.add_middleware(
        Gate,
        keyring=services.keyring,
        hosts=Hosts(settings.allowed_hosts.split(",")),
        rate=settings.key_rate,
        burst=settings.key_burst,
    )
    if settings.api_access_log:
        app.add_middleware(AccessLog)
    app.add_middleware(RequestEdge)  # outside of the gate, so that a refusal has a request id, too
    if settings.root_path or settings.proxies:
        app.add_middleware(Proxied, prefix=settings.root_path, proxies=settings.proxies)
    metrics.streams.set_function(lambda: services.streams.feed.streams)
    problems.install(app, settings.locale)
    documentation.install(app, paths=task_paths.LEAN_PATHS | stream_paths.LEAN_PATHS, wire_types=_WIRE_TYPES)
    return app


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("docs")  # relative: it stays under the prefix of a proxy
