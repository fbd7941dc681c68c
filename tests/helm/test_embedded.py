"""The pair for evaluation."""

from __future__ import annotations

from tests.helm.chart import HELMS, NAMESPACE, STORES, render, run, scenario


def test_it_is_off():
    assert render().all("StatefulSet") == []


def test_passwords_agree_with_the_urls():
    found = scenario("embedded")
    data = found.one("Secret", "secrets")["stringData"]
    host = f"lq-ledgerq-postgresql.{NAMESPACE}.svc"
    assert data["database-url"] == f"postgresql://ledgerq:{data['postgresql-password']}@{host}:5432/ledgerq"
    assert data["redis-url"] == f"redis://:{data['redis-password']}@lq-ledgerq-redis.{NAMESPACE}.svc:6379/0"
    assert len(data["postgresql-password"]) == len(data["redis-password"]) == 32
    assert {one["metadata"]["name"] for one in found.all("Service")} >= {"lq-ledgerq-postgresql", "lq-ledgerq-redis"}
    for component in ("api", "worker-default", "maintenance", "monitor"):
        assert found.env(component)["DATABASE_URL"] == {
            "secretKeyRef": {"name": "lq-ledgerq-secrets", "key": "database-url"}
        }


def test_the_first_keys_are_long_and_differ():
    data = scenario("embedded").one("Secret", "secrets")["stringData"]
    keys = [data["admin-key"], data["reader-key"]]
    assert all(len(key) == 43 and key.isalnum() for key in keys)
    assert keys[0] != keys[1]


def test_data_and_password_go_together():
    for one in scenario("embedded").all("StatefulSet"):
        assert one["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def notes(**values):
    # Helm 3 wants a cluster for this.
    done = run(HELMS[-1], "install", "--dry-run=client", values=STORES | values)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_the_notes_warn_of_what_is_not_for_production():
    none = {"existingSecret": ""}
    shown = notes(database=none, redis=none, embedded={"postgresql": {"enabled": True}, "redis": {"enabled": True}})
    assert "NOT FOR PRODUCTION" in shown
    assert "NOT FOR PRODUCTION" not in notes()
    assert "NO API KEYS" in notes(api={"allowAnonymous": True})
    assert "NO WORKER POOLS" in notes(worker={"pools": {"default": None}})
    assert "NO MAINTENANCE" in notes(maintenance={"replicas": 0})


def test_the_notes_say_where_it_is_how_to_get_a_key_and_how_to_verify():
    shown = notes(api={"ingress": {"enabled": True, "hosts": ["q.example.com"]}})
    assert "https" not in shown
    assert "http://q.example.com/" in shown
    assert f"kubectl -n {NAMESPACE} port-forward service/lq-ledgerq-api 8000:8000" in shown
    assert "get secret lq-ledgerq-secrets -o jsonpath='{.data.admin-key}'" in shown
    assert "ledgerq keys create" in shown
    assert f"helm test lq -n {NAMESPACE}" in shown
    taken = notes(apiKeys={"admin": {"existingSecret": "mine", "key": "a.b"}})
    assert "get secret mine -o jsonpath='{.data.a\\.b}'" in taken


def test_pods_of_a_long_release_can_carry_its_name_in_a_label():
    """Kubernetes adds a hash of ten characters, and a label has 63."""
    embedded = {"postgresql": {"enabled": True}, "redis": {"enabled": True}}
    none = {"existingSecret": ""}
    found = render(fullnameOverride="x" * 53, database=none, redis=none, embedded=embedded)
    [data] = [one["stringData"] for one in found.all("Secret")]
    stores = found.all("StatefulSet")
    assert len(stores) == 2
    for store in stores:
        name = store["metadata"]["name"]
        assert len(name) <= 52
        assert any(f"@{name}.{NAMESPACE}.svc:" in data[key] for key in ("database-url", "redis-url"))
