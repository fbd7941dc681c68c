"""Commands begin quickly: they import no client and no framework that they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("ledgerq_api.cli", {"redis", "kombu", "fastapi", "starlette", "prometheus_client", "sqlalchemy"}),
        ("ledgerq_shared.migrate", {"redis", "kombu", "prometheus_client", "sqlalchemy", "alembic"}),
        ("launcher.main", {"redis", "kombu", "prometheus_client", "sqlalchemy"}),
        (
            "ledgerq_worker.node.agent",
            {"rich", "opentelemetry.sdk", "prometheus_client", "pydantic", "celery.exceptions"},
        ),
        (
            "ledgerq_worker.maintenance.main",
            {"opentelemetry.sdk", "sqlalchemy", "celery.app", "ledgerq_worker.celery.client"},
        ),
        ("ledgerq_api.main", {"rich", "opentelemetry.sdk", "sqlalchemy"}),
        ("ledgerq_monitor.main", {"rich", "opentelemetry.sdk", "sqlalchemy"}),
        ("ledgerq_monitor.flower", {"rich", "opentelemetry.sdk", "sqlalchemy"}),
    ],
)
def test_a_command_does_not_wait_for_what_it_does_not_use(module, unneeded):
    ask = f"import sys, {module}; print(*sorted(sys.modules))"
    imported = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True, timeout=60)
    assert not unneeded.intersection(imported.stdout.split())
