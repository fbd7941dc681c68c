"""The API's Deployment, Service, ways in, and scaling."""

from __future__ import annotations

from tests.helm.chart import render, scenario


def test_liveness_asks_the_process_and_readiness_the_stores():
    container = render().container("api")
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]


def test_it_waits_for_migrations_and_makes_the_keys_known_before_it_starts():
    pod = render().pod("api")["spec"]
    wait, keys = pod["initContainers"]
    assert wait["command"] == ["ledgerq-migrate", "wait", "--timeout", "300"]
    script = keys["command"][-1].splitlines()
    assert [line.partition("--name")[0].strip() for line in script] == ["ledgerq keys create --if-none"] * 2
    assert [line.partition("--scope")[2] for line in script] == [
        " admin --file /keys/admin",
        " tasks:read --file /keys/reader",
    ]
    [volume] = [one for one in pod["volumes"] if one["name"] == "keys"]
    assert [one["secret"] for one in volume["projected"]["sources"]] == [
        {"name": "lq-ledgerq-secrets", "items": [{"key": f"{name}-key", "path": name}]} for name in ("admin", "reader")
    ]
    # The API itself never sees them: it keeps digests.
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["tmp"]


def test_existing_keys_are_taken_and_none_is_made():
    found = scenario("existing-secrets")
    [volume] = [one for one in found.pod("api")["spec"]["volumes"] if one["name"] == "keys"]
    assert [one["secret"] for one in volume["projected"]["sources"]] == [
        {"name": "ledgerq-keys", "items": [{"key": name, "path": name}]} for name in ("admin", "reader")
    ]
    assert found.all("Secret") == []


def test_without_keys_it_serves_everybody_and_knows_of_no_key():
    found = render(api={"allowAnonymous": True})
    assert found.env("api")["LEDGERQ_ALLOW_ANONYMOUS"] == "true"
    assert "ledgerq-api," in found.env("api")["LEDGERQ_ALLOWED_HOSTS"]
    ingress = {"enabled": True, "hosts": ["queue.example.org"]}
    known = render(api={"allowAnonymous": True, "ingress": ingress}).env("api")["LEDGERQ_ALLOWED_HOSTS"]
    assert known.endswith(",queue.example.org")
    assert [one["name"] for one in found.pod("api")["spec"]["initContainers"]] == ["wait-for-migrations"]
    assert found.all("Secret") == []
    assert "LEDGERQ_ALLOW_ANONYMOUS" not in render().env("api")


def test_a_pod_leaves_the_service_before_it_ends():
    container = render(api={"preStopSeconds": 7}).container("api")
    assert container["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "7"]}}}
    assert "lifecycle" not in render(api={"preStopSeconds": 0}).container("api")


def test_under_an_autoscaler_it_has_no_number_of_replicas():
    assert render(api={"replicas": 3}).one("Deployment", "api")["spec"]["replicas"] == 3
    found = scenario("full")
    assert "replicas" not in found.one("Deployment", "api")["spec"]
    hpa = found.one("HorizontalPodAutoscaler", "api")["spec"]
    assert hpa["scaleTargetRef"]["name"] == "lq-ledgerq-api"
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 10)
    assert hpa["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert hpa["behavior"]["scaleDown"] == {"stabilizationWindowSeconds": 60}


def test_the_service_finds_the_pods():
    found = render(api={"service": {"type": "NodePort", "nodePort": 30080, "port": 80}})
    service = found.one("Service", "api")["spec"]
    assert service["selector"] == found.one("Deployment", "api")["spec"]["selector"]["matchLabels"]
    assert (service["type"], service["ports"]) == (
        "NodePort",
        [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}],
    )


def test_ways_in_lead_to_the_service():
    assert render().all("Ingress") == render().all("HTTPRoute") == []
    found = scenario("full")
    ingress = found.one("Ingress", "api")["spec"]
    assert ingress["ingressClassName"] == "nginx"
    [rule] = ingress["rules"]
    assert rule["host"] == "ledgerq.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "lq-ledgerq-api", "port": {"name": "http"}}
    route = found.one("HTTPRoute", "api")["spec"]
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "lq-ledgerq-api", "port": 8000}]


def test_below_a_path_of_the_ingress_the_api_knows_it():
    ingress = {"enabled": True, "hosts": ["example.org"], "path": "/queue/"}
    assert render(api={"ingress": ingress}).env("api")["LEDGERQ_ROOT_PATH"] == "/queue"
    assert "LEDGERQ_ROOT_PATH" not in render().env("api")
    own = render(api={"ingress": ingress}, config={"LEDGERQ_ROOT_PATH": "/other"})
    assert "LEDGERQ_ROOT_PATH" not in own.env("api")


def test_who_lists_tasks_is_told_of_the_replica_and_nobody_else():
    found = scenario("full")
    told = {"secretKeyRef": {"name": "stores", "key": "DATABASE_REPLICA_URL"}}
    for component in ("api", "monitor", "flower"):
        assert found.env(component)["DATABASE_REPLICA_URL"] == told
    for component in ("maintenance", "worker-default"):
        assert "DATABASE_REPLICA_URL" not in found.env(component)
    assert "DATABASE_REPLICA_URL" not in scenario("minimal").env("api")
