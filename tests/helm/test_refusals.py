"""Values that cannot work are refused before anything is installed, by a message that names the key and the way out."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, HELMS, STORES, refusal

MOVED = yaml.safe_load((CHART / "files" / "moved-keys.yaml").read_text("utf-8"))

BY_SENTINEL = {"existingSecret": "", "url": "sentinel://x;sentinel://y/0?master_name=m"}

#: What is wrong, and the message.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"database": {"existingSecret": ""}}, "database: where is it? Set database.existingSecret"),
    ({"redis": {"existingSecret": ""}}, "redis: where is it? Set redis.existingSecret"),
    ({"database": {"url": "postgresql://x"}}, "both database.existingSecret and database.url are set"),
    (
        {"database": {"replica": {"existingSecret": "x", "url": "postgresql://x"}}},
        "both database.replica.existingSecret and database.replica.url are set",
    ),
    ({"redis": {"url": "redis://x"}}, "both redis.existingSecret and redis.url are set"),
    ({"embedded": {"postgresql": {"enabled": True}}}, "embedded.postgresql.enabled: database.existingSecret"),
    ({"embedded": {"redis": {"enabled": True}}}, "embedded.redis.enabled: redis.existingSecret"),
    ({"redis": BY_SENTINEL | {"url": "sentinel://x"}}, "redis.url: does not name the master that the sentinels watch"),
    (
        {"redis": BY_SENTINEL, "networkPolicy": {"enabled": True}},
        "networkPolicy.sentinelPort: redis.url names sentinels, and no pod could reach them",
    ),
    ({"api": {"terminationGracePeriodSeconds": 14}}, "14 is less than api.preStopSeconds + 10 = 15"),
    ({"api": {"ingress": {"enabled": True}}}, "api.ingress.hosts: an Ingress needs a host"),
    ({"api": {"httpRoute": {"enabled": True}}}, "api.httpRoute.parentRefs: an HTTPRoute needs a Gateway"),
    ({"api": {"autoscaling": {"mode": "hpa"}}}, "api.resources.requests.cpu: an HPA scales by the share"),
    (
        {"api": {"autoscaling": {"mode": "hpa", "minReplicas": 3, "maxReplicas": 2}}},
        "api.autoscaling: minReplicas 3 is above maxReplicas 2",
    ),
    ({"worker": {"pools": {"a": {"autoscaling": {"mode": "hpa"}}}}}, "worker.pools.a.resources.requests.cpu"),
    (
        {
            "podDefaults": {"resources": {"requests": {"cpu": 1}}},
            "worker": {"pools": {"a": {"autoscaling": {"mode": "hpa", "minReplicas": 0}}}},
        },
        "worker.pools.a.autoscaling.minReplicas: an HPA cannot scale to 0",
    ),
    (
        {"worker": {"pools": {"a": {"terminationGracePeriodSeconds": 44}}}},
        "worker.pools.a.terminationGracePeriodSeconds: 44 is less than taskSeconds + drainSeconds = 45",
    ),
    (
        {"worker": {"taskSeconds": 600, "pools": {"a": {"terminationGracePeriodSeconds": 60}}}},
        "60 is less than taskSeconds + drainSeconds = 615",
    ),
    ({"worker": {"pools": {"a": {"pool": "solo"}}}}, "worker.pools.a.concurrency: the solo pool has one slot"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.serviceMonitor.enabled: workers serve no metrics"),
    ({"config": {"LEDGERQ_API_PORT": 9}}, "config.LEDGERQ_API_PORT: the chart sets it itself. Use api.service.port"),
    *[({key: {}}, f"{key}: not a key of this chart. Use ") for key in MOVED],
]

#: Keys and values that the schema refuses.
MISSPELT: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 3}, "'replicas' not allowed"),
    ({"api": {"replica": 3}}, "'replica' not allowed"),
    ({"api": {"service": {"ports": 80}}}, "'ports' not allowed"),
    ({"worker": {"pools": {"a": {"queue": "x"}}}}, "'queue' not allowed"),
    ({"worker": {"pools": {"a": {"pools": {}}}}}, "'pools' not allowed"),
    ({"worker": {"pools": {"A": {}}}}, "A"),
    ({"worker": {"queues": ["no spaces"]}}, "/worker/queues/0"),
    ({"worker": {"pool": "gevent"}}, "/worker/pool"),
    ({"api": {"autoscaling": {"mode": "keda"}}}, "/api/autoscaling/mode"),
    ({"worker": {"readinessProbe": {}}}, "'readinessProbe' not allowed"),
    ({"migrate": {"strategy": {}}}, "'strategy' not allowed"),
    ({"podDefaults": {"podDisruptionBudget": {"max": 1}}}, "'max' not allowed"),
    ({"config": {"DATABASE_URL": "x"}}, "DATABASE_URL"),
    ({"embedded": {"postgresql": {"version": "17"}}}, "'version' not allowed"),
    ({"api": {"image": {"digest": "latest"}}}, "/api/image/digest"),
]


def laid_over(over: dict[str, Any], under: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(under)
    for key, value in over.items():
        found[key] = laid_over(value, found[key]) if isinstance(value, dict) and key in found else value
    return found


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(("values", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_keys_that_do_not_agree(values, message, helm):
    assert message in refusal(laid_over(values, STORES), helm)


@pytest.mark.parametrize(("values", "message"), MISSPELT, ids=[str(values) for values, _ in MISSPELT])
def test_an_unknown_key_or_value_is_an_error(values, message):
    assert message in refusal(laid_over(values, STORES))


def test_every_message_of_the_chart_is_tried():
    """Each `fail` of the templates is what one of the cases above gets."""
    known = [" ".join(refusal(laid_over(values, STORES)).split()) for values, _ in WRONG]
    for path in sorted((CHART / "templates").rglob("*")):
        if path.is_file():
            for text in re.findall(r'fail (?:\(printf )?"([^"]+)"', path.read_text("utf-8")):
                pattern = ".*".join(re.escape(part) for part in re.split(r"%[sd]", text))
                assert any(re.search(pattern, said) for said in known), text
