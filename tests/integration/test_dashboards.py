"""Every query of every dashboard has data, in a real Prometheus that scrapes a running stack."""

from __future__ import annotations

import json
import math

import pytest

from tests.support import http, wait
from tests.support.observed import Observed
from tests.support.prometheus import DASHBOARDS
from tests.support.sse import EventStream

_VARIABLES = {"$__rate_interval": "30s", "$queue": ".*", "$task_type": ".*"}


def queries() -> dict[tuple[str, str, str], str]:
    """By dashboard, panel and target."""
    found = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in _VARIABLES.items():
                    expression = expression.replace(name, value)
                found[path.stem, panel["title"], target["refId"]] = expression
    return found


@pytest.mark.slow
def test_no_panel_is_without_data(stack):
    observed = Observed(stack)
    stack.register()
    prometheus = observed.prometheus()
    prometheus.start()
    try:
        for start in (observed.monitor, observed.maintenance, observed.api):
            start()
        observed.worker(LEDGERQ_GRACE_SECONDS="0")  # it ends in the middle of a task
        wait.until(lambda: http.answers(f"{observed.url}/readyz"), 60, what=stack.logs)
        asked = queries()
        assert len(asked) > 50
        observed.submit("add", x=1, y=2, countdown=3600)
        [running] = observed.submit("runs", seconds=60)
        without = dict(asked)

        def all_have_data() -> bool:
            # Rates and quantiles need something that happens between two scrapes.
            observed.submit("add", number=20, x=1, y=2)
            observed.submit("fails", number=2)
            http.request("POST", f"{observed.url}/tasks/submit", {"task_type": "observed_tasks.fails"})
            http.request("GET", f"{observed.url}/tasks/{running}/status")
            for name, expression in list(without.items()):
                if any(not math.isnan(value) for _, value in prometheus.query(expression)):
                    del without[name]
            return not without

        with EventStream(f"{observed.url}/tasks/{running}/stream"):
            wait.until(
                all_have_data,
                90,
                interval=0.5,
                what=lambda: f"without data: {json.dumps(list(without.items()), indent=1)}",
            )
    finally:
        prometheus.stop()
