"""metrics.md: every metric that a service exports, from its own declaration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledgerq_api import metrics as api
from ledgerq_monitor import exporter
from ledgerq_shared.process.metrics import Metric
from ledgerq_worker.maintenance import metrics as maintenance
from ledgerq_worker.node import metrics as worker
from reference.tables import table

GROUPS: dict[str, Sequence[Metric]] = {
    "Monitor": exporter.METRICS,
    "API": api.METRICS,
    "Worker": worker.METRICS,
    "Maintenance": maintenance.METRICS,
}

_INTRODUCTION = """# Metrics

Where each process is scraped, and what to do with it: [the guide](../guides/observe.md). The monitor's figures come from the
stores, so they are the same whoever looks; one monitor is enough. Those of the API, the workers and maintenance are each
process's own: add them up. A histogram has the series `_bucket`, `_sum` and `_count`. Beside these, API, monitor and
maintenance have Python's usual `process_…` and `python_…`.
"""


def page() -> str:
    """The whole page."""
    text = _INTRODUCTION + "\n"
    for title, metrics in GROUPS.items():
        text += f"## {title}\n{table(('metric', 'kind', 'labels', 'meaning'), _rows(metrics))}"
    return text.rstrip("\n") + "\n"


def _rows(metrics: Sequence[Metric]) -> Iterator[tuple[str, ...]]:
    for metric in metrics:
        assert metric.help.endswith("."), f"{metric.name}: its help is a sentence"
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        yield f"`{metric.name}`", metric.kind, labels, metric.help
