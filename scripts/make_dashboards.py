"""Write Grafana's dashboards from the definitions below; `--check` only says which files are not current (exit code 1).

The files are in the chart's folder, because a chart can read nothing outside of itself; Compose mounts the same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from generated import write_or_check

FOLDER = Path(__file__).parent.parent / "deploy" / "helm" / "ledgerq" / "files" / "dashboards"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_HEIGHT = 8


class Panel(NamedTuple):
    """A panel: its queries, each with its legend. A row has three graphs or six figures."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    #: `timeseries`, or `stat` for one large figure.
    kind: str = "timeseries"
    #: Figures from this value on are red.
    alarm: float | None = None


class Dashboard(NamedTuple):
    """A page of panels; ``variables`` narrow its queries: name → the query that lists the values."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def quantiles(metric: str, by: str = "", where: str = "") -> tuple[tuple[str, str], ...]:
    """The median and the 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))",
            f"{legend}p{q * 100:g}",
        )
        for q in (0.5, 0.99)
    )


def stat(title: str, query: str, unit: str = "short", alarm: float | None = None) -> Panel:
    """One large figure."""
    return Panel(title, ((query, ""),), unit, "stat", alarm)


_QUEUE = 'queue=~"$queue"'
_TYPE = 'task_type=~"$task_type"'

DASHBOARDS = (
    Dashboard(
        "ledgerq-overview",
        "LedgerQ / Overview",
        (
            stat("PostgreSQL", "min(ledgerq_postgresql_up)", "bool_on_off"),
            stat("Redis", "min(ledgerq_redis_up)", "bool_on_off"),
            stat("Live workers", 'sum(ledgerq_workers{state="live"})'),
            stat("Ready tasks", "sum(ledgerq_queue_ready_tasks)"),
            stat("Oldest ready task", "max(ledgerq_queue_oldest_ready_seconds)", "s", 300),
            stat("Leader's lease", "max(ledgerq_leader_lease_seconds)", "s"),
            stat("Stuck tasks", "sum(ledgerq_stuck_tasks)", alarm=1),
            stat("Quarantined tasks", "sum(ledgerq_quarantined_tasks)", alarm=1),
            stat("Slots in use", "sum(ledgerq_workers_busy_slots) / sum(ledgerq_workers_slots)", "percentunit"),
            stat("Database", "max(ledgerq_postgresql_database_bytes)", "bytes"),
            stat("Redis memory", "max(ledgerq_redis_memory_bytes)", "bytes"),
            stat("Collectors that fail", "count(ledgerq_monitor_collector_up == 0) or vector(0)", alarm=1),
            Panel(
                "Tasks that ended",
                (("sum by (state) (rate(ledgerq_tasks_ended_total[$__rate_interval]))", "{{state}}"),),
                "ops",
            ),
            Panel("Tasks by state", (("sum by (state) (ledgerq_tasks)", "{{state}}"),)),
            Panel("Waiting by queue", (("sum by (queue) (ledgerq_queue_ready_tasks)", "{{queue}}"),)),
            Panel(
                "API: requests",
                (("sum by (status) (rate(ledgerq_api_request_seconds_count[$__rate_interval]))", "{{status}}"),),
                "reqps",
            ),
            Panel("API: time to answer", quantiles("ledgerq_api_request_seconds"), "s"),
            Panel(
                "Workers: attempts",
                (("sum by (outcome) (rate(ledgerq_task_run_seconds_count[$__rate_interval]))", "{{outcome}}"),),
                "ops",
            ),
            Panel(
                "PostgreSQL: size of tables",
                (("topk(8, max by (table) (ledgerq_postgresql_table_bytes))", "{{table}}"),),
                "bytes",
            ),
            Panel(
                "PostgreSQL: write-ahead log",
                (("sum(rate(ledgerq_postgresql_wal_bytes_total[$__rate_interval]))", "written"),),
                "Bps",
            ),
            Panel(
                "PostgreSQL: connections",
                (
                    ("max(ledgerq_postgresql_connections)", "open"),
                    ("max(ledgerq_postgresql_max_connections)", "allowed"),
                ),
            ),
            Panel(
                "Collectors: time", (("max by (collector) (ledgerq_monitor_collector_seconds)", "{{collector}}"),), "s"
            ),
        ),
    ),
    Dashboard(
        "ledgerq-queue",
        "LedgerQ / Queue",
        (
            stat("Ready", f"sum(ledgerq_queue_ready_tasks{{{_QUEUE}}})"),
            stat("In workers' hands", f"sum(ledgerq_queue_claimed_tasks{{{_QUEUE}}})"),
            stat("Oldest ready", f"max(ledgerq_queue_oldest_ready_seconds{{{_QUEUE}}})", "s", 300),
            stat("Slots that serve it", f"sum(ledgerq_queue_slots{{{_QUEUE}}})"),
            stat("Paused", f"max(ledgerq_queue_paused{{{_QUEUE}}})", "bool_yes_no"),
            stat("Tickets in Redis", f"sum(ledgerq_redis_tickets{{{_QUEUE}}})"),
            Panel("Ready tasks", ((f"sum by (queue) (ledgerq_queue_ready_tasks{{{_QUEUE}}})", "{{queue}}"),)),
            Panel(
                "Age of the oldest",
                (
                    (f"max by (queue) (ledgerq_queue_oldest_ready_seconds{{{_QUEUE}}})", "{{queue}} ready"),
                    (f"max by (queue) (ledgerq_queue_oldest_claim_seconds{{{_QUEUE}}})", "{{queue}} in hands"),
                ),
                "s",
            ),
            Panel(
                "Held, by reason",
                ((f"sum by (reason) (ledgerq_queue_held_tasks{{{_QUEUE}}})", "{{reason}}"),),
            ),
            Panel("Tasks by state", ((f"sum by (state) (ledgerq_tasks{{{_QUEUE}, {_TYPE}}})", "{{state}}"),)),
            Panel(
                "Tasks that ended",
                (
                    (
                        f"sum by (state) (rate(ledgerq_tasks_ended_total{{{_QUEUE}, {_TYPE}}}[$__rate_interval]))",
                        "{{state}}",
                    ),
                ),
                "ops",
            ),
            Panel(
                "Share of failures by type",
                (
                    (
                        (
                            f'sum by (task_type) (rate(ledgerq_tasks_ended_total{{{_QUEUE}, {_TYPE}, state="FAILURE"}}'
                            "[$__rate_interval])) / sum by (task_type) "
                            f'(rate(ledgerq_tasks_ended_total{{{_QUEUE}, {_TYPE}, state!="REVOKED"}}[$__rate_interval]))'
                        ),
                        "{{task_type}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Wait before the code begins",
                quantiles("ledgerq_task_queue_seconds", where=_QUEUE),
                "s",
            ),
            Panel("Run time", quantiles("ledgerq_task_run_seconds", "task_type", f"{_QUEUE}, {_TYPE}"), "s"),
            Panel(
                "Maintenance is behind with",
                (
                    ("max(ledgerq_dispatch_due_tasks)", "due tasks"),
                    ("max(ledgerq_outbox_entries)", "outbox entries"),
                ),
            ),
        ),
        (
            ("queue", "label_values(ledgerq_queue_ready_tasks, queue)"),
            ("task_type", 'label_values(ledgerq_tasks{queue=~"$queue"}, task_type)'),
        ),
    ),
    Dashboard(
        "ledgerq-worker",
        "LedgerQ / Worker",
        (
            stat("Live", 'sum(ledgerq_workers{state="live"})'),
            stat("Overdue", 'sum(ledgerq_workers{state="overdue"})', alarm=1),
            stat("Lost within a day", 'sum(ledgerq_workers_ended{reason="lost"})', alarm=1),
            stat("Slots", "sum(ledgerq_workers_slots)"),
            stat("Slots in use", "sum(ledgerq_workers_busy_slots)"),
            stat("Longest running task", "max(ledgerq_worker_running_seconds)", "s"),
            Panel("Slots in use", (("sum by (worker) (ledgerq_workers_busy_slots)", "{{worker}}"),)),
            Panel("Heartbeat's age", (("max by (worker) (ledgerq_workers_heartbeat_age_seconds)", "{{worker}}"),), "s"),
            Panel(
                "Attempts by outcome",
                (("sum by (outcome) (rate(ledgerq_task_run_seconds_count[$__rate_interval]))", "{{outcome}}"),),
                "ops",
            ),
            Panel("Run time by type", quantiles("ledgerq_task_run_seconds", "task_type"), "s"),
            Panel("Tasks a claim", quantiles("ledgerq_worker_claim_tasks")),
            Panel("Flush: time", quantiles("ledgerq_worker_flush_seconds"), "s"),
            Panel("Flush: tasks", quantiles("ledgerq_worker_flush_tasks")),
            Panel(
                "Writes that the ledger refused",
                (("sum(rate(ledgerq_worker_refused_writes_total[$__rate_interval]))", "refused"),),
                "ops",
            ),
            Panel(
                "Pool processes that died",
                (("sum(increase(ledgerq_worker_lost_processes_total[$__rate_interval]))", "died"),),
            ),
            Panel("Maintenance: who leads", (("max by (instance) (ledgerq_maintenance_leads)", "{{instance}}"),)),
            Panel(
                "Maintenance: what was done",
                (("sum by (duty) (rate(ledgerq_maintenance_done_total[$__rate_interval]))", "{{duty}}"),),
                "ops",
            ),
            Panel(
                "Maintenance: time of a round",
                (
                    (
                        (
                            "sum by (duty) (rate(ledgerq_maintenance_duty_seconds_sum[$__rate_interval])) / "
                            "sum by (duty) (rate(ledgerq_maintenance_duty_seconds_count[$__rate_interval]))"
                        ),
                        "{{duty}}",
                    ),
                ),
                "s",
            ),
        ),
    ),
    Dashboard(
        "ledgerq-api",
        "LedgerQ / API",
        (
            stat("Requests", "sum(rate(ledgerq_api_request_seconds_count[$__rate_interval]))", "reqps"),
            stat(
                "Answered 5xx",
                'sum(rate(ledgerq_api_request_seconds_count{status=~"5.."}[$__rate_interval])) or vector(0)',
                "reqps",
                0.01,
            ),
            stat("In progress", "sum(ledgerq_api_requests_in_progress)"),
            stat("Streams", "sum(ledgerq_api_streams)"),
            stat("Accepted tasks", "sum(rate(ledgerq_api_flush_tasks_sum[$__rate_interval]))", "ops"),
            stat("Memory", 'max(process_resident_memory_bytes{job=~".*api.*"})', "bytes"),
            Panel(
                "Requests by route",
                (
                    (
                        "sum by (method, route) (rate(ledgerq_api_request_seconds_count[$__rate_interval]))",
                        "{{method}} {{route}}",
                    ),
                ),
                "reqps",
            ),
            Panel(
                "Requests by status",
                (("sum by (status) (rate(ledgerq_api_request_seconds_count[$__rate_interval]))", "{{status}}"),),
                "reqps",
            ),
            Panel("Time to answer, by route", quantiles("ledgerq_api_request_seconds", "route"), "s"),
            Panel("Group commit: time", quantiles("ledgerq_api_flush_seconds", "kind"), "s"),
            Panel("Group commit: tasks", quantiles("ledgerq_api_flush_tasks", "kind")),
            Panel(
                "CPU",
                (('sum by (job) (rate(process_cpu_seconds_total{job=~".*api.*"}[$__rate_interval]))', "{{job}}"),),
                "percentunit",
            ),
        ),
    ),
)


def as_json(dashboard: Dashboard) -> str:
    """The dashboard in Grafana's JSON."""
    return json.dumps(_dashboard(dashboard), indent=2, ensure_ascii=False) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    ]
    for name, query in dashboard.variables:
        variables.append(
            {
                "name": name,
                "type": "query",
                "datasource": _SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["ledgerq"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": variables},
        "links": [{"title": "LedgerQ", "type": "dashboards", "tags": ["ledgerq"], "asDropdown": True}],
        "panels": _placed(dashboard.panels),
    }


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    placed = []
    x = y = row_height = 0
    for number, panel in enumerate(panels, 1):
        width, height = (4, 4) if panel.kind == "stat" else (8, _HEIGHT)
        if x + width > _COLUMNS or (row_height and height != row_height):
            x, y = 0, y + row_height
        row_height = height
        placed.append({**_panel(panel, number), "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x += width
    return placed


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
    options: dict[str, Any] = (
        {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        if panel.kind == "stat"
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    )
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def main() -> int:
    """Write the files, or compare them."""
    made = {FOLDER / f"{dashboard.uid}.json": as_json(dashboard) for dashboard in DASHBOARDS}
    return write_or_check(made, target="reference")


if __name__ == "__main__":
    sys.exit(main())
