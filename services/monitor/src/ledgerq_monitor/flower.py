"""``ledgerq-flower``: Celery's Flower, configured for LedgerQ. Its pages show LedgerQ's tasks and not the drains.

Workers send it events about the tasks inside drains; it reads the other tasks from the ledger (`flower_tasks`), for
which it needs SELECT. It is read only unless the settings say otherwise; then its orders go through the workers, which
cancel in the ledger and adopt the tasks that it sends.
"""

from __future__ import annotations

import ledgerq_shared.process.lean_imports  # noqa: F401 - comes first  # isort: skip

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery

from ledgerq_monitor import flower_pages
from ledgerq_monitor.collectors.collector import Ledger, open_ledger
from ledgerq_monitor.flower_access import replace_pages, serve_no_strangers, set_access
from ledgerq_monitor.flower_settings import EventSettings, FlowerSettings, FlowerStores, HostSettings
from ledgerq_monitor.flower_tasks import LedgerTasks
from ledgerq_shared.listening import BOTH, cannot_listen, url_of
from ledgerq_shared.process import output
from ledgerq_shared.process.commands import complain
from ledgerq_shared.process.logging import configure
from ledgerq_shared.process.signals import treat_as_sigterm
from ledgerq_shared.redis_access import celery_broker, celery_result_backend
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load

if TYPE_CHECKING:
    from flower.app import Flower

#: Seconds that one statement about the ledger's tasks may take.
_LEDGER_SECONDS = 5.0


def main() -> None:
    """Serve until SIGTERM or SIGINT; an error that prevents this is one line and exit 2."""
    output.guard()
    try:
        settings, stores, logs = load(FlowerSettings), load(FlowerStores), load(LogSettings)
        rate = load(EventSettings).events_per_second
        configure(logs, service="flower", prints=dict)
        logging.getLogger("tornado.access").setLevel(logging.WARNING)
        logging.getLogger("flower.inspector").addFilter(_is_trouble)
        # This variable would open Flower's API to anybody who reaches the port, even to pages of other sites.
        os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
        flower = build(settings, stores)
        try:
            flower.start_http_server()
        except OSError as error:
            raise cannot_listen(settings.host, settings.port, error, prefix="FLOWER") from None
    except SettingsError as error:
        complain("ledgerq-flower", error.said)
        sys.exit(2)
    structlog.get_logger().info("flower.listening", url=url_of(settings.host, settings.port), pid=os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: flower.io_loop.add_callback_from_signal(flower.io_loop.stop))
    treat_as_sigterm()
    if stores.database_url:
        ledger = _open_ledger(stores)
        flower.io_loop.spawn_callback(LedgerTasks(flower.events.state, ledger, rate=rate).follow)
    flower.start()
    flower.stop()


def _open_ledger(stores: StoreSettings) -> Ledger:
    return open_ledger(stores, application_name="ledgerq-flower", size=1, timeout=_LEDGER_SECONDS)


def _is_trouble(record: logging.LogRecord) -> bool:
    """Leaves out that no worker answered, which Flower says at each start: it starts together with the workers."""
    return record.msg != "Inspect method %s failed"


def build(settings: FlowerSettings, stores: StoreSettings) -> Flower:
    """Flower's application; nothing listens yet.

    Raises:
        SettingsError: Flower is not installed.
    """
    try:
        from flower import urls
        from flower.app import Flower
        from flower.options import options
        from flower.utils import prepend_url
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Flower is not installed (no module {module!r}): ledgerq-monitor[flower]", module=error.name
        ) from None
    _set_options(options, settings)
    flower_pages.add_fields()
    flower_pages.count_the_living_only()
    web: dict[str, Any] = dict(urls.settings)
    if settings.cookie_secret is not None:
        web["cookie_secret"] = settings.cookie_secret.get_secret_value()
    if settings.url_prefix:
        for name in ("login_url", "static_url_prefix"):
            web[name] = prepend_url(web[name], settings.url_prefix)
    if settings.oauth_provider:
        assert settings.oauth_secret is not None
        web["oauth"] = {
            "key": settings.oauth_key,
            "secret": settings.oauth_secret.get_secret_value(),
            "redirect_uri": settings.oauth_redirect_uri,
        }
    flower = Flower(capp=_celery(stores), options=options, **web)
    replace_pages(flower, settings.url_prefix, _open_ledger(stores) if stores.database_url else None)
    if not settings.credentials and not settings.oauth_provider:
        serve_no_strangers(flower, load(HostSettings).allowed_hosts)
    return flower


def _set_options(options: Any, settings: FlowerSettings) -> None:
    # Tornado takes `::` for IPv6 only, and an empty address for all addresses of both kinds.
    host = settings.host.strip("[]")
    options.address, options.port = "" if host == BOTH else host, settings.port
    options.url_prefix = settings.url_prefix or None
    options.max_tasks = settings.max_tasks
    options.inspect_timeout = settings.inspect_timeout * 1000
    options.purge_offline_workers = 300
    options.tasks_columns = flower_pages.COLUMNS
    options.format_task = flower_pages.format_task
    options.enable_events = False  # workers notice by themselves that somebody listens
    set_access(options, settings)


def _celery(stores: StoreSettings) -> Celery:
    app = Celery("ledgerq-flower", set_as_current=False)
    app.conf.update(
        celery_broker(stores.broker_url) | celery_result_backend(stores.result_backend),
        accept_content=["json"],
        result_accept_content=["json"],
        # Tasks that it sends go to a queue that workers serve; nobody serves Celery's own default queue.
        task_default_queue="default",
        broker_connection_retry_on_startup=True,
    )
    return app


if __name__ == "__main__":
    main()
