"""The guide's real release: stores elsewhere, every secret made beforehand, upgraded from the previous commit's chart."""

from __future__ import annotations

import base64
import shutil
from typing import Any

import pytest

from tests.kubernetes.cluster import CHART, Namespace, run
from tests.kubernetes.guide import block, follow
from tests.kubernetes.load import Api, Load

pytestmark = [pytest.mark.timeout(1200)]

_PASSWORD = "not-a-secret-here"


def store(name: str, image: str, port: int, user: int, **container: Any) -> list[dict[str, Any]]:
    """A store as somebody else runs it: a pod and its Service."""
    labels = {"app": name}
    pod = {
        "securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user},
        "containers": [{"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **container}],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
    ]


@pytest.fixture(scope="module")
def stores(live: Namespace) -> dict[str, str]:
    """URLs of a PostgreSQL and a Redis outside the release."""
    run("kubectl", "create", "namespace", live.name)
    env = [
        {"name": name, "value": value} for name, value in (("POSTGRES_USER", "me"), ("POSTGRES_PASSWORD", _PASSWORD))
    ]
    live.apply(
        *store("pg", "postgres:17", 5432, 999, env=env),
        *store("valkey", "redis:7", 6379, 999),
    )
    for name in ("pg", "valkey"):
        live.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    return {
        "postgresql://user:password@postgresql.example.com:5432/ledgerq": f"postgresql://me:{_PASSWORD}@pg:5432/me",
        "redis://redis.example.com:6379/0": "redis://valkey:6379/0",
    }


def told(script: str, stores: dict[str, str]) -> str:
    """A block with our stores' addresses instead of the examples'."""
    for example, ours in stores.items():
        script = script.replace(example, ours)
    return script


def test_the_previous_chart_is_upgraded_to_this_one_under_load(live, stores, previous_chart, tmp_path):
    follow(told(block("create secret generic ledgerq-stores"), stores))
    values = tmp_path / "my-values.yaml"
    values.write_text(block("ledgerq-stores", "yaml"))
    # Fewer pods than one would run: this machine does everything at once.
    ours = "--set api.service.type=NodePort --set maintenance.replicas=1"
    install = block("--values my-values.yaml").replace("my-values.yaml", str(values))
    assert "helm upgrade --install" in install
    follow(install.replace("deploy/helm/ledgerq", str(previous_chart)).rstrip() + f" {ours}\n")
    live.until_ready()
    assert live.objects("statefulsets") == []
    # The hook's copies are gone. The release's Secret was never made, because all of its values were given.
    assert {one["metadata"]["name"] for one in live.objects("secrets,jobs")} & {
        "ledgerq-migrate",
        "ledgerq-secrets",
    } == set()
    api = Api(live.node_port("ledgerq-api"), live.secret("ledgerq-keys", "admin-key"))
    with Load(api) as load:
        load.more(5)
        follow(install.rstrip() + f" {ours} --set podDefaults.podAnnotations.restarted=yes\n")
        load.more(5)
    live.until_ready()
    api.check(load.ids)
    assert api.count() == len(load.ids)


def test_helm_test_passes_with_an_existing_key(live):
    assert "SUCCESS" in live.helm("test", "--logs", "--timeout", "3m")


def test_helm_4_takes_the_release_over(live):
    if shutil.which("helm4") is None:
        pytest.skip("Helm 4 is not here under the name helm4")
    before = {pod["metadata"]["name"] for pod in live.pods()}
    run("helm4", "-n", live.name, "upgrade", live.release, str(CHART), "--reuse-values", "--wait", "--timeout", "3m")
    assert {pod["metadata"]["name"] for pod in live.pods()} == before


def test_flower_is_there_for_those_who_know_its_password(live):
    live.kubectl("create", "secret", "generic", "flower", "--from-literal=basic-auth=me:secret")
    flower = ("--set", "flower.enabled=true", "--set", "flower.auth.existingSecret=flower")
    live.helm("upgrade", str(CHART), "--reuse-values", *flower, "--wait", "--timeout", "3m")
    password = base64.b64encode(b"me:secret").decode()
    assert live.ask("http://ledgerq-flower:5555/workers")[0] == 401
    assert live.ask("http://ledgerq-flower:5555/workers", Authorization=f"Basic {password}")[0] == 200


def test_the_readers_key_reads_and_does_no_more(live):
    reader = Api(live.node_port("ledgerq-api"), live.secret("ledgerq-keys", "reader-key"))
    assert reader.get("/scaling")["backlog"] == 0
    refused = reader.call("POST", "/tasks/submit", {"task_type": "x", "task_parameters": {}})
    assert refused.status == 403
    assert Api(reader.url, "x" * 43).call("GET", "/scaling").status == 401


def test_a_failed_migration_fails_the_upgrade_and_leaves_the_old_pods_alone(live):
    before = {pod["metadata"]["name"] for pod in live.pods()}
    with pytest.raises(AssertionError, match="ledgerq-migrate"):
        live.helm(
            "upgrade", str(CHART), "--reuse-values", "--set", "database.key=REDIS_URL",
            "--set", "migrate.backoffLimit=0", "--set", "migrate.activeDeadlineSeconds=20", "--timeout", "1m",
        )  # fmt: skip
    assert {pod["metadata"]["name"] for pod in live.pods()} == before
