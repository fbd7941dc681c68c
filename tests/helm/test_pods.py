"""What holds for every pod of every scenario, and the keys that every component takes."""

from __future__ import annotations

import re

import pytest

from tests.helm.chart import SCENARIOS, containers, render, scenario

EACH = pytest.mark.parametrize("name", SCENARIOS)
COMPONENTS = ["api", "worker-default", "maintenance", "monitor", "flower"]
FLOWER = {"enabled": True, "auth": {"existingSecret": "flower"}}


def pods(name):
    found = scenario(name).pods()
    assert found
    return found.items()


@EACH
def test_it_meets_the_restricted_pod_security_standard(name):
    for where, pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["runAsUser"] > 0, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), where
        for volume in pod.get("volumes", []):
            kinds = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
            assert set(volume) - {"name"} <= kinds, where
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, (where, container["name"])
            assert context["capabilities"] == {"drop": ["ALL"]}, (where, container["name"])
            assert context["readOnlyRootFilesystem"] is True, (where, container["name"])
            assert "hostPort" not in str(container.get("ports")), where


@EACH
def test_no_pod_gets_a_token_or_variables_that_look_like_our_settings(name):
    for where, pod in pods(name):
        assert pod["automountServiceAccountToken"] is False, where
        # LEDGERQ_API_PORT=tcp://… of a service link would be read as a setting.
        assert pod["enableServiceLinks"] is False, where


@EACH
def test_tmp_can_be_written_although_the_rest_cannot(name):
    for where, pod in pods(name):
        for container in containers(pod):
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], (where, container["name"])


@EACH
def test_no_container_may_take_all_memory_of_its_node(name):
    for where, pod in pods(name):
        for container in containers(pod):
            assert container["resources"]["limits"]["memory"], (where, container["name"])


@EACH
def test_images_have_a_tag_that_is_not_latest(name):
    for where, pod in pods(name):
        for container in containers(pod):
            _, _, tag = container["image"].rpartition(":")
            assert tag not in {"", "latest"}, where
            assert "/" not in tag, where


@EACH
def test_secrets_reach_pods_by_reference_only(name):
    for where, pod in pods(name):
        for container in containers(pod):
            for one in container["env"]:
                if re.search("URL|PASSWORD|KEY|AUTH", one["name"]) and one["name"] != "LEDGERQ_URL":
                    assert "secretKeyRef" in one["valueFrom"], (where, one["name"])


@EACH
def test_selectors_hold_nothing_that_an_upgrade_could_change(name):
    found = scenario(name)
    for one in found.all("Deployment") + found.all("StatefulSet"):
        selector = one["spec"]["selector"]["matchLabels"]
        allowed = {f"app.kubernetes.io/{part}" for part in ("name", "instance", "component")} | {"ledgerq/pool"}
        assert set(selector) <= allowed
        assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_no_two_deployments_select_the_same_pods():
    found = scenario("full").all("Deployment")
    selectors = [tuple(sorted(one["spec"]["selector"]["matchLabels"].items())) for one in found]
    assert len(selectors) == len(set(selectors)) == 6


def test_selectors_are_those_of_the_first_release():
    """A Deployment's selector cannot be changed: an upgrade would fail. These are for ever."""
    found = {
        one["metadata"]["name"]: one["spec"]["selector"]["matchLabels"] for one in scenario("minimal").all("Deployment")
    }
    own = {"app.kubernetes.io/name": "ledgerq", "app.kubernetes.io/instance": "lq"}
    assert found == {
        "lq-ledgerq-api": own | {"app.kubernetes.io/component": "api"},
        "lq-ledgerq-maintenance": own | {"app.kubernetes.io/component": "maintenance"},
        "lq-ledgerq-monitor": own | {"app.kubernetes.io/component": "monitor"},
        "lq-ledgerq-worker-default": own | {"app.kubernetes.io/component": "worker", "ledgerq/pool": "default"},
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_takes_every_key_of_a_pod(component):
    own = {
        "resources": {"requests": {"cpu": "1"}},
        "podAnnotations": {"a": "1"},
        "podLabels": {"l": "1"},
        "annotations": {"d": "1"},
        "nodeSelector": {"n": "1"},
        "tolerations": [{"key": "t"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "p",
        "extraEnv": [{"name": "E", "value": "1"}],
        "extraEnvFrom": [{"secretRef": {"name": "s"}}],
        "extraVolumes": [{"name": "v", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        "strategy": {"type": "Recreate", "rollingUpdate": None},
        "podDisruptionBudget": {"maxUnavailable": 2},
        "podSecurityContext": {"runAsUser": 7},
        "securityContext": {"privileged": False},
        "livenessProbe": {"periodSeconds": 99},
        "startupProbe": {"periodSeconds": 98},
    }
    key = component.partition("-")[0]
    base = FLOWER if key == "flower" else {}
    found = render(**{key: base | own})
    deployment = found.one("Deployment", component)
    pod, container = found.pod(component), found.container(component)
    assert deployment["metadata"]["annotations"] == {"d": "1"}
    assert deployment["spec"]["strategy"]["type"] == "Recreate"
    assert pod["metadata"]["annotations"]["a"] == pod["metadata"]["labels"]["l"] == "1"
    spec = pod["spec"]
    assert (spec["nodeSelector"], spec["tolerations"], spec["priorityClassName"]) == ({"n": "1"}, [{"key": "t"}], "p")
    assert spec["affinity"] == {"podAntiAffinity": {}}
    [spread] = spec["topologySpreadConstraints"]
    selector = deployment["spec"]["selector"]
    assert (spread["topologyKey"], spread["labelSelector"]) == ("zone", selector)
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsNonRoot"]) == (7, True)
    assert {"name": "v", "emptyDir": {}} in spec["volumes"]
    for one in containers(spec):
        assert {"name": "E", "value": "1"} in one["env"]
        assert {"secretRef": {"name": "s"}} in one["envFrom"]
        assert {"name": "v", "mountPath": "/v"} in one["volumeMounts"]
        assert one["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}
        assert one["securityContext"]["privileged"] is False
    assert container["livenessProbe"]["periodSeconds"] == 99
    assert container["startupProbe"]["periodSeconds"] == 98
    assert found.one("PodDisruptionBudget", component)["spec"]["maxUnavailable"] == 2
    # and nobody else
    other = "monitor" if component != "monitor" else "api"
    assert found.pod(other)["spec"].get("priorityClassName") is None


def test_a_budget_has_one_bound_and_none_is_made_for_no_pods():
    found = render(podDefaults={"podDisruptionBudget": {"minAvailable": "50%"}}, monitor={"replicas": 0})
    assert found.one("PodDisruptionBudget", "api")["spec"]["minAvailable"] == "50%"
    assert "maxUnavailable" not in found.one("PodDisruptionBudget", "api")["spec"]
    assert "monitor" not in found.names("PodDisruptionBudget")
    assert render(podDefaults={"podDisruptionBudget": {"maxUnavailable": None}}).all("PodDisruptionBudget") == []


def test_a_variable_of_the_user_replaces_the_charts():
    found = render(api={"extraEnv": [{"name": "DATABASE_URL", "value": "postgresql://pooler/ledgerq"}]})
    named = [one for one in found.container("api")["env"] if one["name"] == "DATABASE_URL"]
    assert named == [{"name": "DATABASE_URL", "value": "postgresql://pooler/ledgerq"}]


def test_a_handler_of_the_user_replaces_the_charts():
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 3}
    found = render(api={"livenessProbe": probe}).container("api")["livenessProbe"]
    assert found["exec"] == {"command": ["true"]}
    assert "httpGet" not in found


def test_new_settings_replace_the_pods():
    def checksum(**values):
        return render(**values).pod("api")["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum()
    assert checksum() != checksum(config={"LEDGERQ_LOG_LEVEL": "debug"})


def test_images_come_from_the_registry_with_the_release_as_their_tag():
    found = render(image={"registry": "r.example/x"})
    assert found.container("api")["image"] == "r.example/x/ledgerq-api:0.1.0"
    assert render(image={"tag": "9"}).container("monitor")["image"] == "ledgerq-monitor:9"
    digest = "sha256:" + "a" * 64
    found = render(api={"image": {"tag": "8", "digest": digest}})
    assert found.container("api")["image"] == f"ledgerq-api@{digest}"


def test_pods_and_services_have_ipv6_where_that_is_set():
    found = render(
        network={"listen": "::", "ipFamilyPolicy": "PreferDualStack"}, metrics={"enabled": True}, flower=FLOWER
    )
    places = {
        "api": "API",
        "monitor": "MONITOR",
        "flower": "FLOWER",
        "worker-default": "METRICS",
        "maintenance": "METRICS",
    }
    for component, prefix in places.items():
        assert found.env(component)[f"LEDGERQ_{prefix}_HOST"] == "::", component
    services = [one for one in found.all("Service") if "ports" in one["spec"]]
    assert services
    assert {one["spec"].get("ipFamilyPolicy") for one in services if one["spec"].get("clusterIP") != "None"} == {
        "PreferDualStack"
    }
    assert render(flower=FLOWER).env("api")["LEDGERQ_API_HOST"] == "0.0.0.0"
