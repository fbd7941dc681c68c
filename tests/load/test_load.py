"""A short run of Locust, headless, against a server that asks for a key."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ledgerq_api.auth.key_scopes import KeyScope
from tests.support import databases, keys

ROOT = Path(__file__).resolve().parents[2]
LOCUST = ROOT / ".venv-load" / "bin" / "locust"
#: Speed is not what is tested: nothing but the one threshold can be missed.
_THRESHOLDS = "[default]\nfailed_share = 0.0\nsubmit_p95 = {submit_p95}\nended_p95 = 60.0\nall_ended_within = 60.0\n"


@pytest.fixture
def locust(stack):
    stack.register()
    _, key = keys.make(stack.environment["DATABASE_URL"], KeyScope.SUBMIT, KeyScope.READ)
    api = stack.api()
    stack.worker()
    stack.maintenance()

    def run(scenario, *arguments, **environment):
        return subprocess.run(
            [LOCUST, "-f", ROOT / "tests/load/locustfile.py", "--host", api.url, "--headless", "--only-summary",
             "--stop-timeout", "90", "--csv", stack.folder / "load", "--html", stack.folder / "load.html", *arguments],
            env={"PATH": os.environ["PATH"], "LEDGERQ_API_KEY": key, "LOAD_SCENARIO": scenario, **environment},
            cwd=stack.folder, capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip

    return run


def unfinished_and_all(stack):
    sql = "SELECT count(*) FILTER (WHERE completed_at IS NULL), count(*) FROM task"
    return databases.rows(stack.environment["DATABASE_URL"], sql)[0]


def test_ten_seconds_of_the_mixed_scenario_lose_nothing_and_leave_a_report(stack, locust):
    patient = stack.folder / "patient.toml"
    patient.write_text(_THRESHOLDS.format(submit_p95=60.0))
    done = locust("mixed", "--users", "6", "--spawn-rate", "6", "--run-time", "10s", LOAD_THRESHOLDS=str(patient))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all have ended" in done.stderr
    unfinished, count = unfinished_and_all(stack)
    assert unfinished == 0
    assert count > 100
    names = (stack.folder / "load_stats.csv").read_text()
    assert all(f",{name}," in names for name in ("submit", "status", "long poll", "batch", "ended"))
    assert "<html" in (stack.folder / "load.html").read_text()


def test_a_threshold_that_is_not_kept_is_named_and_ends_with_1(stack, locust):
    strict = stack.folder / "strict.toml"
    strict.write_text(_THRESHOLDS.format(submit_p95=0.0))
    done = locust("burst", LOAD_SECONDS="6", LOAD_USERS="4", LOAD_THRESHOLDS=str(strict))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "submit_p95" in done.stderr
    assert "ended_p95" not in done.stderr
    assert unfinished_and_all(stack)[0] == 0
