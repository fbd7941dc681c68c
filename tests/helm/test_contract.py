"""The chart agrees with the code, and its generated files with their source."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys

import yaml

from tests.helm.chart import CHART, SCENARIOS, containers, render, scenario

ROOT = CHART.parents[2]
#: Read by images that are not ours, by `helm test`, or by what the user adds.
FOREIGN = re.compile(r"POSTGRES_|PGDATA$|REDIS_PASSWORD$|LEDGERQ_URL$|LEDGERQ_API_KEY$|LEDGERQ_TEST_|TZ$")


def settings() -> set[str]:
    """Every variable that some settings class reads: the reference is generated from these and verified."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    return set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))


def test_every_variable_of_the_chart_is_a_setting():
    known = settings()
    assert {"DATABASE_URL", "LEDGERQ_API_PORT"} <= known
    for name in SCENARIOS:
        found = scenario(name)
        for where, pod in found.pods().items():
            for container in containers(pod):
                used = {one["name"] for one in container["env"] if not FOREIGN.match(one["name"])}
                assert used <= known, where
        assert set(found.one("ConfigMap", "config")["data"]) <= known


def test_the_charts_release_is_the_distributions():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    for name in ("ledgerq-api", "ledgerq-worker", "ledgerq-monitor"):
        assert chart["appVersion"] == importlib.metadata.version(name)
    assert f"## {chart['version']}" in (CHART / "UPGRADING.md").read_text("utf-8")


def test_commands_of_the_chart_are_those_of_the_distributions():
    scripts = {one.name for one in importlib.metadata.entry_points(group="console_scripts")}
    for name in SCENARIOS:
        for where, pod in scenario(name).pods().items():
            for container in containers(pod):
                command = container.get("command", ["sh"])[0]
                assert command in scripts | {"sh", "python"}, where


def test_schema_and_tables_are_made_from_values_yaml():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_chart.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_schema_describes_every_key_and_allows_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

    def look(node, where):
        if "properties" in node and "allOf" not in node:
            assert node.get("additionalProperties") is False, where
            for name, one in node["properties"].items():
                assert "description" in one or "$ref" in one, f"{where}.{name}"
                # What belongs to Kubernetes is described there.
                if name != "podDisruptionBudget":
                    look(one, f"{where}.{name}")

    look(schema, "values")
    for name in ("pool", "image"):
        look(schema["definitions"][name], name)


def alerts(found):
    return [rule for group in found.one("PrometheusRule", "alerts")["spec"]["groups"] for rule in group["rules"]]


def test_alerts_have_one_file_each_and_say_what_to_do():
    files = sorted((CHART / "files" / "alerts").glob("*.yaml"))
    found = alerts(scenario("full"))
    assert len({one["alert"] for one in found}) == len(found) == len(files)
    for one in found:
        assert one["labels"]["team"] == "platform"
        assert "severity" in one["labels"]
        assert one["annotations"]["summary"]
        assert (ROOT / one["annotations"]["runbook"]).exists(), one["alert"]
    left_out = found[0]["alert"]
    fewer = alerts(render(metrics={"prometheusRule": {"enabled": True, "exclude": [left_out]}}))
    assert [one["alert"] for one in fewer] == [one["alert"] for one in found[1:]]


def test_dashboards_are_shipped_as_they_are():
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))
    found = scenario("full")
    for path in files:
        config = found.one("ConfigMap", f"dashboard-{path.stem}")
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(config["data"][path.name]) == json.loads(path.read_text("utf-8"))


def test_the_readmes_install_as_the_guide_does():
    def commands(name):
        return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line.startswith("helm install")]

    [guides] = commands("docs/guides/kubernetes.md")
    assert commands("README.md") == commands("README.zh-CN.md") == [guides]


def test_every_command_of_the_guide_is_followed_on_the_cluster():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "kubernetes").glob("test_*.py"))
    followed = re.findall(r'block\("([^"]+)"', tests)
    guide = (ROOT / "docs" / "guides" / "kubernetes.md").read_text("utf-8")
    for script in re.findall(r"```(?:sh|yaml)\n(.*?)```", guide, re.DOTALL):
        assert any(words in script for words in followed), script
