"""The Job: hook or not, what it runs, and what it brings along."""

from __future__ import annotations

import re

import pytest

from tests.helm.chart import render, scenario

URLS = {
    "database": {"existingSecret": "", "url": "postgresql://h/d"},
    "redis": {"existingSecret": "", "url": "redis://h"},
}
HOOK = "helm.sh/hook"


def job(found):
    [one] = found.all("Job")
    return one


def test_it_migrates_and_then_registers_the_task_types():
    pod = job(render())["spec"]["template"]["spec"]
    assert [one["command"] for one in pod["initContainers"]] == [["ledgerq-migrate", "upgrade"]]
    assert [one["command"] for one in pod["containers"]] == [["ledgerq-worker", "register"]]


def test_every_set_of_tasks_is_registered_once():
    pools = {"a": {"queues": ["a"]}, "b": {}, "c": {"image": {"repository": "own"}}, "d": {"taskModules": "d"}}
    pod = job(render(worker={"pools": {"default": None} | pools}))["spec"]["template"]["spec"]
    assert [(one["name"], one["image"]) for one in pod["containers"]] == [
        ("register-a", "ledgerq-worker:0.1.0"),
        ("register-c", "own:0.1.0"),
        ("register-d", "ledgerq-worker:0.1.0"),
    ]
    modules = [
        [variable["value"] for variable in one["env"] if variable["name"] == "LEDGERQ_TASK_MODULES"]
        for one in pod["containers"]
    ]
    assert modules == [[], [], ["d"]]


def test_before_the_release_it_brings_all_it_needs_and_helm_takes_it_away():
    found = render(**URLS)
    hooks = [one for one in found.objects if (one["metadata"].get("annotations") or {}).get(HOOK, "test") != "test"]
    assert sorted((one["kind"], one["metadata"]["name"]) for one in hooks) == [
        (kind, "lq-ledgerq-migrate") for kind in ("ConfigMap", "Job", "Secret", "ServiceAccount")
    ]
    weights = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks}
    assert weights.pop("Job") > max(weights.values())
    for one in hooks:
        assert one["metadata"]["annotations"][HOOK] == "pre-install,pre-upgrade"
        assert one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    pod = job(found)["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "lq-ledgerq-migrate"
    for container in pod["initContainers"] + pod["containers"]:
        assert container["envFrom"] == [{"configMapRef": {"name": "lq-ledgerq-migrate"}}]
        for one in container["env"]:
            if "valueFrom" in one:
                assert one["valueFrom"]["secretKeyRef"]["name"] == "lq-ledgerq-migrate"
    secret = next(one for one in hooks if one["kind"] == "Secret")
    assert secret["stringData"] == {"database-url": "postgresql://h/d", "redis-url": "redis://h"}


def test_existing_secrets_are_not_copied():
    found = render()
    assert "migrate" not in found.names("Secret")
    env = job(found)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env[0]["valueFrom"]["secretKeyRef"] == {"name": "stores", "key": "DATABASE_URL"}


@pytest.mark.parametrize("name", ["existing-secrets", "embedded"])
def test_without_hooks_it_is_an_object_of_the_release(name):
    found = job(scenario(name))
    assert re.fullmatch("lq-ledgerq-migrate-[0-9a-f]{8}", found["metadata"]["name"])
    assert HOOK not in (found["metadata"]["annotations"] or {})
    assert found["spec"]["template"]["spec"]["serviceAccountName"] == {"embedded": "lq-ledgerq"}.get(name, "default")


def test_every_pod_that_uses_the_ledger_waits_for_it():
    found = scenario("full")
    for one in found.all("Deployment"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        pod = one["spec"]["template"]["spec"]
        if component != "flower":
            wait = pod["initContainers"][0]
            assert wait["command"][:2] == ["ledgerq-migrate", "wait"], component
            assert wait["image"] == pod["containers"][0]["image"]


def test_without_hooks_its_name_follows_its_content_for_a_job_cannot_be_changed():
    """Argo CD renders every release as revision 1."""

    def name(**values):
        return job(render(migrate={"useHelmHooks": False}, **values))["metadata"]["name"]

    assert name() == name()
    assert name() != name(image={"tag": "0.2.0"})
    assert name() != name(worker={"taskModules": "my_tasks"})


def test_a_queue_that_looks_like_a_number_is_text():
    found = render(worker={"pools": {"default": {"queues": ["123"]}}})
    assert found.env("worker-default")["LEDGERQ_WORKER_QUEUES"] == "123"
    [register] = job(found)["spec"]["template"]["spec"]["containers"]
    assert {"name": "LEDGERQ_WORKER_QUEUES", "value": "123"} in register["env"]
