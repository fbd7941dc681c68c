"""The guide's trial with the embedded stores, and then everything that happens to a release, under load.

One release, in this order: each test finds it as the one before has left it. What was accepted at any time is looked at
again at the end.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.kubernetes.cluster import CHART, Namespace, run
from tests.kubernetes.guide import block, follow
from tests.kubernetes.load import LONG, Api, Load
from tests.support import wait
from tests.support.ports import free_port

pytestmark = [pytest.mark.timeout(1200)]

#: A port for the tests, and pools: one that people scale, one that KEDA does, an API that an HPA does.
_MORE = {
    "metrics": {"enabled": True},
    "api": {
        "service": {"type": "NodePort"},
        "resources": {"requests": {"cpu": "50m"}},
        "autoscaling": {
            "mode": "hpa",
            "minReplicas": 2,
            "maxReplicas": 3,
            "targetCPUUtilizationPercentage": 20,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    },
    "worker": {
        "pools": {
            "burst": {
                "queues": ["burst"],
                "autoscaling": {
                    "mode": "keda",
                    "minReplicas": 0,
                    "maxReplicas": 3,
                    "keda": {"pollingInterval": 2, "cooldownPeriod": 5, "targetSeconds": 1},
                },
            },
            "batch": {
                "queues": ["batch"],
                "autoscaling": {
                    "mode": "keda",
                    "minReplicas": 0,
                    "maxReplicas": 1,
                    "keda": {"trigger": "sql", "pollingInterval": 2, "cooldownPeriod": 5},
                },
            },
        }
    },
}
#: Everything that was accepted.
_PROMISED: list[str] = []


@pytest.fixture(scope="module")
def api(trial: Namespace) -> Api:
    """The API, by its NodePort, with the first key."""
    key = trial.secret("ledgerq-secrets", "admin-key")
    return Api(trial.node_port("ledgerq-api"), key)


def _replicas(trial: Namespace, pool: str) -> int:
    """How many pods of a worker pool there are to be."""
    return int(trial.one("deployment", f"ledgerq-worker-{pool}")["spec"]["replicas"])


def test_the_guides_trial_is_installed_and_answers(trial):
    follow(block("embedded.postgresql.enabled=true"))
    trial.until_ready()
    assert "SUCCESS" in follow(block("helm test ledgerq --namespace ledgerq"))
    port = str(free_port())
    script = "\n".join(["trap 'kill $(jobs -p)' EXIT", block("KEY="), block("port-forward"), block("/tasks/submit")])
    printed = follow(script.replace("8000:", f"{port}:").replace(":8000/", f":{port}/"))
    assert '"status":"PENDING"' in printed
    assert "tasks:read" in follow(block("ledgerq keys list"))


def test_no_pod_has_restarted_since_and_none_has_a_token(trial):
    for pod in trial.pods():
        for status in pod["status"]["containerStatuses"]:
            assert status["restartCount"] == 0, trial.picture()
        mounts = [mount["mountPath"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]]
        assert not [path for path in mounts if "serviceaccount" in path]


def test_an_upgrade_adds_a_pool_and_autoscalers(trial, tmp_path):
    values = tmp_path / "more.json"
    values.write_text(json.dumps(_MORE))
    trial.helm("upgrade", str(CHART), "--reuse-values", "--values", str(values), "--wait", "--timeout", "5m")
    trial.until_ready()
    for pool in ("burst", "batch"):
        wait.until(lambda name=pool: _replicas(trial, name) == 0, 60, interval=1, what=trial.picture)


def test_every_component_is_scraped(trial, api):
    for component, port in (("worker", 9100), ("maintenance", 9100), ("monitor", 8001)):
        address = trial.pods(component)[0]["status"]["podIP"]
        status, body = trial.ask(f"http://{address}:{port}/metrics")
        assert (status, "\nledgerq_" in body) == (200, True), component
    assert b"\nledgerq_" in api.call("GET", "/metrics").body


def test_workers_scale_from_1_to_3_to_1_under_load(trial, api):
    with Load(api) as load:
        load.more(5)
        for number in ("3", "1"):
            trial.kubectl("scale", "deployment/ledgerq-worker-default", f"--replicas={number}")
            trial.kubectl("rollout", "status", "deployment/ledgerq-worker-default", "--timeout=120s")
            wait.until(lambda n=number: len(trial.pods("worker")) == int(n), 90, interval=1, what=trial.picture)
            load.more(10)
    api.check(load.ids)
    _PROMISED.extend(load.ids)


def test_keda_scales_pools_from_0_to_3_to_0_by_scaling_and_from_0_to_1_to_0_by_sql(trial, api):
    def busy() -> bool:
        # However fast the machine is, there is work for one pod more than there may be until all are there.
        if api.get("/scaling?queue=burst&slots_per_worker=2&target_seconds=1")["desired_workers"] <= 3:
            ids.extend(api.submit(queue="burst", limit=LONG) for _ in range(20))
        return reached(3, 1)

    def reached(burst: int, batch: int) -> bool:
        for name, number in (("burst", burst), ("batch", batch)):
            now = _replicas(trial, name)
            most[name] = max(most[name], now)
            wanted[name] = (now == number) or (number > 0 and most[name] == number)
        return all(wanted.values())

    def picture() -> str:
        return f"{most} {trial.kubectl('describe', 'scaledobjects,hpa')}"

    most = {"burst": 0, "batch": 0}
    wanted: dict[str, bool] = {}
    wait.until(lambda: reached(0, 0), 60, interval=1, what=picture)
    ids = [api.submit(queue="batch") for _ in range(3)]
    wait.until(busy, 120, interval=0.5, what=picture)
    api.check(ids)
    wait.until(lambda: reached(0, 0), 120, interval=1, what=picture)
    _PROMISED.extend(ids)


def test_an_hpa_scales_the_api_by_cpu(trial, api):
    def replicas() -> int:
        return int(trial.one("deployment", "ledgerq-api")["status"].get("readyReplicas", 0))

    def picture() -> str:
        return trial.kubectl("describe", "hpa", "ledgerq-api")

    wait.until(lambda: replicas() == 2, 120, interval=1, what=picture)
    with Load(api, clients=6, every=0.05) as load:
        wait.until(lambda: replicas() == 3, 150, interval=0.5, what=picture)

    def conditions() -> tuple[str, str]:
        found = {one["type"]: one["status"] for one in trial.one("hpa", "ledgerq-api")["status"]["conditions"]}
        return found["AbleToScale"], found["ScalingActive"]

    wait.until(lambda: conditions() == ("True", "True"), 60, interval=1, what=picture)
    api.check(load.ids)
    _PROMISED.extend(load.ids)


def test_every_pod_deleted_at_random_under_load_costs_no_task(trial, api):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")  # noqa: T201
    dice = random.Random(seed)
    names = [pod["metadata"]["name"] for pod in trial.pods()]
    dice.shuffle(names)
    with Load(api) as load:
        load.more(5)
        for name in names:
            force = ["--grace-period=0", "--force"] if dice.random() < 0.5 else []
            trial.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found", *force)
            load.more(3)
    trial.until_ready()
    api.check(load.ids)
    _PROMISED.extend(load.ids)


def test_a_rolling_restart_of_everything_under_load_costs_no_task(trial, api):
    before = {pod["metadata"]["name"] for pod in trial.pods("api") + trial.pods("worker") + trial.pods("maintenance")}
    with Load(api) as load:
        load.more(5)
        trial.helm(
            "upgrade", str(CHART), "--reuse-values", "--set", "podDefaults.podAnnotations.restarted=yes",
            "--wait", "--timeout", "5m",
        )  # fmt: skip
        load.more(5)
    trial.until_ready()
    wait.until(lambda: not before & {pod["metadata"]["name"] for pod in trial.pods()}, 60, interval=1)
    api.check(load.ids)
    _PROMISED.extend(load.ids)


def test_a_release_that_cannot_start_costs_nothing_and_is_rolled_back_with_its_keys(trial, api):
    key = trial.secret("ledgerq-secrets", "admin-key")

    def waits_for_its_image() -> bool:
        states = [
            one["state"] for pod in trial.pods("worker") for one in pod["status"].get("initContainerStatuses", [])
        ]
        return any("ImagePull" in state.get("waiting", {}).get("reason", "") for state in states)

    with Load(api) as load:
        trial.helm("upgrade", str(CHART), "--reuse-values", "--set", "worker.image.tag=missing")
        wait.until(waits_for_its_image, 90, interval=1, what=trial.picture)
        load.more(10)
        trial.helm("rollback", "--wait", "--timeout", "3m")
        load.more(5)
    trial.until_ready()
    assert trial.secret("ledgerq-secrets", "admin-key") == key
    api.check(load.ids)
    _PROMISED.extend(load.ids)


def test_nothing_that_was_accepted_at_any_time_was_lost_or_made_twice(api):
    assert len(_PROMISED) > 100
    api.check(_PROMISED)
    assert api.count() == len(_PROMISED)


def test_the_guides_way_out_leaves_nothing(trial):
    follow(block("helm uninstall ledgerq --namespace ledgerq"))
    kinds = "deployments,statefulsets,jobs,services,secrets,configmaps,persistentvolumeclaims,scaledobjects"

    def left() -> list[str]:
        objects = trial.objects(kinds)
        return [one["metadata"]["name"] for one in objects if one["metadata"]["name"].startswith("ledgerq")]

    wait.until(lambda: not left(), 90, interval=1, what=lambda: str(left()))
    assert run("helm", "-n", trial.name, "list", "-q").split() == []
