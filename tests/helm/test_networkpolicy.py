"""NetworkPolicies: exactly the edges that the guide lists."""

from __future__ import annotations

from tests.helm.chart import render, scenario

DNS = "dns"
#: Who may reach a component on which port, and what it may reach: the table of docs/guides/kubernetes.md.
EDGES = {
    "api": ("http", {DNS, 5432, 6379}),
    "worker": ("metrics", {DNS, 5432, 6379, 443}),
    "maintenance": ("metrics", {DNS, 5432, 6379}),
    "monitor": ("http", {DNS, 5432, 6379}),
    "flower": ("http", {DNS, 5432, 6379}),
    "migrate": (None, {DNS, 5432, 6379}),
    "test": (None, {DNS, "http"}),
}


def edges(policy):
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    into = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
    out = set()
    for rule in spec["egress"]:
        ports = {port["port"] for port in rule["ports"]}
        out |= {DNS} if ports == {53} else ports
    assert len(into) <= 1
    return (into[0] if into else None), out


def test_they_are_off():
    assert render().all("NetworkPolicy") == []


def test_the_edges_are_the_documented_ones_and_no_others():
    found = scenario("full")
    assert {name: edges(found.one("NetworkPolicy", name)) for name in found.names("NetworkPolicy")} == EDGES


def test_each_policy_is_for_the_pods_of_its_component():
    found = scenario("full")
    for one in found.all("NetworkPolicy"):
        wanted = one["spec"]["podSelector"]["matchLabels"]
        assert wanted["app.kubernetes.io/component"] == one["metadata"]["name"].removeprefix("lq-ledgerq-")
    component = "app.kubernetes.io/component"
    covered = {one["spec"]["podSelector"]["matchLabels"][component] for one in found.all("NetworkPolicy")}
    makers = found.all("Deployment") + found.all("Job") + found.all("Pod")
    made = {one["metadata"]["labels"][component] for one in makers}
    assert made == covered


def test_without_metrics_nobody_reaches_workers_or_maintenance():
    found = render(networkPolicy={"enabled": True})
    for name in ("worker", "maintenance"):
        assert edges(found.one("NetworkPolicy", name))[0] is None


def test_those_who_may_come_in_are_named():
    found = scenario("full")
    for name, namespace in (("api", "ingress"), ("monitor", "monitoring"), ("worker", "monitoring")):
        [rule] = found.one("NetworkPolicy", name)["spec"]["ingress"]
        [source] = rule["from"]
        assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}


def test_sentinels_are_reached_by_all_who_reach_redis():
    found = scenario("sentinel")
    for name in ("api", "worker", "maintenance", "monitor", "migrate"):
        assert {6379, 26379} <= edges(found.one("NetworkPolicy", name))[1]
    rules = found.one("NetworkPolicy", "api")["spec"]["egress"]
    [redis] = [rule for rule in rules if {"port": 26379} in rule["ports"]]
    assert redis["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "stores"}}}]
    url = found.one("Secret", "secrets")["stringData"]["redis-url"]
    assert url.startswith("sentinel://:secret@sentinel-0.stores.svc:26379;sentinel://")
    assert url.endswith("/0?master_name=ledgerq")


def test_the_embedded_stores_are_reached_by_the_release_only():
    none = {"existingSecret": ""}
    embedded = {"postgresql": {"enabled": True}, "redis": {"enabled": True}}
    found = render(database=none, redis=none, embedded=embedded, networkPolicy={"enabled": True})
    for name in ("postgresql", "redis"):
        policy = found.one("NetworkPolicy", name)["spec"]
        assert policy["egress"] == []
        [source] = policy["ingress"][0]["from"]
        assert source["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "lq"
    rules = found.one("NetworkPolicy", "api")["spec"]["egress"][1:]
    assert [rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for rule in rules] == [
        "postgresql",
        "redis",
    ]
