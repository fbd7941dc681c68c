"""Worker pools: one Deployment each, and who decides how many pods it has."""

from __future__ import annotations

import os
import subprocess
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.helm.chart import render, scenario
from tests.support import databases


def pools(**own):
    return render(worker={"pools": {"default": None} | own})


def test_a_pool_counts_before_worker_and_worker_before_the_pods_defaults():
    found = render(
        podDefaults={"priorityClassName": "all"},
        worker={
            "priorityClassName": "workers",
            "concurrency": 8,
            "replicas": 3,
            "pools": {"a": {}, "b": {"priorityClassName": "own", "concurrency": 1, "replicas": 0}},
        },
    )
    assert [found.pod(f"worker-{name}")["spec"]["priorityClassName"] for name in "ab"] == ["workers", "own"]
    assert [found.env(f"worker-{name}")["LEDGERQ_WORKER_CONCURRENCY"] for name in "ab"] == ["8", "1"]
    assert [found.one("Deployment", f"worker-{name}")["spec"]["replicas"] for name in "ab"] == [3, 0]
    assert found.pod("maintenance")["spec"]["priorityClassName"] == "all"


def test_a_pool_says_what_it_serves():
    env = pools(reports={"queues": ["a", "b.c"], "pool": "threads", "taskSeconds": 90}).env("worker-reports")
    assert env["LEDGERQ_WORKER_QUEUES"] == "a,b.c"
    assert env["LEDGERQ_WORKER_POOL"] == "threads"
    assert env["LEDGERQ_GRACE_SECONDS"] == "90"
    own = scenario("full").container("worker-gpu")
    assert own["image"] == "registry.example.com/ledgerq/ledgerq-worker-gpu:7"
    assert own["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in own["volumeMounts"]


def test_the_default_pool_can_be_left_out():
    assert pools(other={}).names("Deployment") == ["api", "maintenance", "monitor", "worker-other"]


@pytest.mark.parametrize(
    ("own", "seconds"), [({}, 45), ({"taskSeconds": 600}, 615), ({"terminationGracePeriodSeconds": 99}, 99)]
)
def test_running_tasks_have_their_time_before_a_pod_is_killed(own, seconds):
    assert pools(x=own).pod("worker-x")["spec"]["terminationGracePeriodSeconds"] == seconds


def test_liveness_looks_at_the_heartbeat_and_asks_nobody(tmp_path):
    found = render()
    for component in ("worker-default", "maintenance"):
        container = found.container(component)
        assert "readinessProbe" not in container
        assert container["livenessProbe"]["exec"] == container["startupProbe"]["exec"]
        command = container["livenessProbe"]["exec"]["command"]
        assert "celery" not in str(command)
        beat = tmp_path / "heartbeat"
        beat.unlink(missing_ok=True)

        def probe(command=command, beat=beat):
            env = {"PATH": os.environ["PATH"], "LEDGERQ_HEARTBEAT_FILE": str(beat)}
            return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0

        assert not probe()
        beat.touch()
        assert probe()
        old = time.time() - 60
        os.utime(beat, (old, old))
        assert not probe()


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_under_an_autoscaler_a_pool_has_no_number_of_replicas(mode):
    found = pools(x={"autoscaling": {"mode": mode}, "resources": {"requests": {"cpu": "1"}}})
    assert "replicas" not in found.one("Deployment", "worker-x")["spec"]
    kinds = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}
    assert {kind: len(found.all(kind)) for kind in kinds.values()} == {
        kind: int(name == mode) for name, kind in kinds.items()
    }
    assert found.one(kinds[mode], "worker-x")["spec"]["scaleTargetRef"]["name"] == "lq-ledgerq-worker-x"


def test_keda_asks_the_api_with_the_readers_key():
    found = scenario("keda")
    scaled = found.one("ScaledObject", "worker-default")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 3)
    [trigger] = scaled["triggers"]
    metadata = trigger["metadata"]
    assert (trigger["type"], metadata["valueLocation"], metadata["targetValue"]) == (
        "metrics-api",
        "desired_workers",
        "1",
    )
    url = urlsplit(metadata["url"])
    assert (url.netloc, url.path) == ("lq-ledgerq-api.somewhere.svc:8000", "/scaling")
    assert parse_qs(url.query) == {"queue": ["default"], "slots_per_worker": ["2"], "target_seconds": ["60"]}
    assert metadata["authMode"] == "bearer"
    secret = found.one("TriggerAuthentication", trigger["authenticationRef"]["name"].removeprefix("lq-ledgerq-"))
    assert secret["spec"]["secretTargetRef"] == [
        {"parameter": "token", "name": "lq-ledgerq-secrets", "key": "reader-key"}
    ]


def test_keda_asks_postgresql_by_a_role_that_only_reads():
    found = scenario("keda")
    [trigger] = found.one("ScaledObject", "worker-reports")["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    query = trigger["metadata"]["query"]
    assert query.count("queue IN ('reports', 'reports.slow')") == 2
    assert query.endswith("/ 4.0)")
    secret = found.one("TriggerAuthentication", "worker-reports")["spec"]["secretTargetRef"]
    assert secret == [{"parameter": "connection", "name": "ledgerq-readonly", "key": "DATABASE_URL"}]


def test_what_keda_asks_postgresql_is_a_number(database):
    """The query of the chart, on a real ledger."""
    [trigger] = scenario("keda").one("ScaledObject", "worker-reports")["spec"]["triggers"]
    query = trigger["metadata"]["query"].replace("%", "%%")
    assert databases.rows(database, query) == [(0,)]
    databases.execute(
        database,
        "INSERT INTO ready (queue, priority, run_at, task_type, task_id) "
        "SELECT 'reports', 0, now(), 't', md5(n::text)::uuid FROM generate_series(1, 9) n",
    )
    assert databases.rows(database, query) == [(3,)]


def test_keda_needs_no_key_where_nobody_does():
    found = render(api={"allowAnonymous": True}, worker={"autoscaling": {"mode": "keda"}})
    [trigger] = found.one("ScaledObject", "worker-default")["spec"]["triggers"]
    assert "authenticationRef" not in trigger
    assert found.all("TriggerAuthentication") == []
