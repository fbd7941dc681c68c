"""Entry point of ``ledgerq-monitor``."""

import sys

import uvicorn

from ledgerq_monitor.app import build
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_shared import logging, output
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load


def main() -> None:
    """Serve until SIGTERM or SIGINT; a bad setting is one line and exit 2."""
    output.guard()
    try:
        settings, stores, logs = load(MonitorSettings), load(StoreSettings), load(LogSettings)
    except SettingsError as error:
        sys.stderr.write(f"ledgerq-monitor: {error}\n")
        sys.exit(2)
    logging.configure(logs, service="monitor")
    app = build(database_url=stores.database_url, broker_url=stores.broker_url, settings=settings)
    # Probes ask every few seconds: an access log of them would bury everything else.
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)
