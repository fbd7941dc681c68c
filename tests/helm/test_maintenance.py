"""Maintenance and the monitor."""

from __future__ import annotations

from tests.helm.chart import render, scenario


def test_maintenance_runs_twice_from_the_workers_image_with_its_tasks():
    found = render(worker={"image": {"repository": "mine"}, "taskModules": "shop", "celeryApp": "shop.celery:app"})
    assert found.one("Deployment", "maintenance")["spec"]["replicas"] == 2
    container = found.container("maintenance")
    assert (container["image"], container["command"]) == ("mine:0.1.0", ["ledgerq-worker", "maintenance"])
    env = found.env("maintenance")
    assert (env["LEDGERQ_TASK_MODULES"], env["LEDGERQ_CELERY_APP"]) == ("shop", "shop.celery:app")
    other = render(maintenance={"image": {"repository": "other", "tag": "2"}})
    assert other.container("maintenance")["image"] == "other:2"


def test_the_monitor_is_alive_by_itself_and_ready_by_the_stores():
    found = render()
    container = found.container("monitor")
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    env = found.env("monitor")
    assert (env["LEDGERQ_MONITOR_HOST"], env["LEDGERQ_MONITOR_PORT"]) == ("0.0.0.0", "8001")
    assert env["LEDGERQ_MONITOR_ALLOW_ANONYMOUS"] == "true"
    selector = found.one("Deployment", "monitor")["spec"]["selector"]["matchLabels"]
    assert found.one("Service", "monitor")["spec"]["selector"] == selector


def test_with_a_secret_the_monitor_asks_for_its_token_and_prometheus_has_it():
    metrics = {"enabled": True, "serviceMonitor": {"enabled": True}}
    found = render(monitor={"auth": {"existingSecret": "scrape"}}, metrics=metrics)
    secret = {"name": "scrape", "key": "token"}
    env = found.env("monitor")
    assert env["LEDGERQ_MONITOR_TOKEN"] == {"secretKeyRef": secret}
    assert "LEDGERQ_MONITOR_ALLOW_ANONYMOUS" not in env
    [endpoint] = found.one("ServiceMonitor", "monitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": secret}


def test_the_monitor_can_be_left_out():
    found = render(monitor={"enabled": False}, networkPolicy={"enabled": True})
    assert not [one for one in found.objects if one["metadata"]["name"] == "lq-ledgerq-monitor"]


def test_metrics_are_served_only_where_asked_for():
    assert "LEDGERQ_METRICS_PORT" not in render().env("worker-default")
    found = scenario("full")
    for component in ("worker-default", "worker-gpu", "maintenance"):
        env = found.env(component)
        assert (env["LEDGERQ_METRICS_HOST"], env["LEDGERQ_METRICS_PORT"]) == ("0.0.0.0", "9100")
        assert found.container(component)["ports"] == [{"name": "metrics", "containerPort": 9100}]


def test_prometheus_finds_every_component_and_has_a_key_for_the_api():
    assert {one["kind"] for one in render().objects} & {"ServiceMonitor", "PodMonitor", "PrometheusRule"} == set()
    found = scenario("full")
    assert (found.names("ServiceMonitor"), found.names("PodMonitor")) == (["api", "monitor"], ["maintenance", "worker"])
    for one in found.all("ServiceMonitor") + found.all("PodMonitor"):
        assert one["metadata"]["labels"]["release"] == "prometheus"
    [endpoint] = found.one("ServiceMonitor", "api")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "lq-ledgerq-secrets", "key": "reader-key"}
    workers = found.one("PodMonitor", "worker")["spec"]["selector"]["matchLabels"]
    for name in ("worker-default", "worker-gpu"):
        assert workers.items() <= found.pod(name)["metadata"]["labels"].items()
