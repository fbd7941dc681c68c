"""Alerts and dashboards as files: right for Prometheus, each with a runbook and a test, and as their sources say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from tests.support.prometheus import ALERTS, ROOT, promtool

RULES = sorted(ALERTS.glob("*.yaml"))
METRICS = set(re.findall(r"^\| `(ledgerq_\w+)`", (ROOT / "docs/reference/metrics.md").read_text("utf-8"), re.MULTILINE))


def test_prometheus_accepts_all_rules():
    assert len(RULES) >= 10
    assert promtool("check", "rules", *RULES).count("SUCCESS: 1 rules found") == len(RULES)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_rule_fires_when_it_should_and_not_otherwise(path):
    tested = ROOT / "tests" / "alerts" / path.name
    assert "exp_samples: []" in tested.read_text("utf-8"), "says when it does not fire"
    assert "SUCCESS" in promtool("test", "rules", tested)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_rule_has_a_runbook_and_uses_metrics_that_exist(path):
    [group] = yaml.safe_load(path.read_text("utf-8"))["groups"]
    [rule] = group["rules"]
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{path.stem}.md"
    assert (ROOT / rule["annotations"]["runbook"]).read_text("utf-8").startswith(f"# {rule['alert']}\n")
    guide = (ROOT / "docs" / "guides" / "observe.md").read_text("utf-8")
    assert guide.count(f"\n| [{rule['alert']}](../runbooks/{path.stem}.md) | ") == 1, "how to cause it"
    assert rule["labels"]["severity"] in {"critical", "warning"}
    named = set(re.findall(r"ledgerq_\w+", rule["expr"]))
    assert named
    assert named <= METRICS


def test_every_runbook_belongs_to_a_rule():
    assert {path.name.split(".")[0] for path in (ROOT / "docs" / "runbooks").glob("[a-z]*.md")} == {
        path.stem for path in RULES
    }


def test_the_dashboards_are_what_their_source_says():
    done = subprocess.run(
        [sys.executable, "scripts/make_dashboards.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_prometheus_accepts_what_compose_scrapes_with():
    """Its rule files are elsewhere in the container; that they are right stands above."""
    text = (ROOT / "deploy/compose/prometheus/prometheus.yml").read_text("utf-8")
    assert "/etc/prometheus/alerts/*.yaml" in text
    promtool("check", "config", "--syntax-only", ROOT / "deploy/compose/prometheus/prometheus.yml")


def test_prometheus_accepts_what_scrapes_make_run_and_finds_the_rules():
    assert f"{len(RULES)} rule files found" in promtool("check", "config", ROOT / "deploy/compose/prometheus/local.yml")
