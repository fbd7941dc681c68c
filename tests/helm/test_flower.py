"""Flower: off, and never without authentication."""

from __future__ import annotations

from tests.helm.chart import STORES, refusal, render, scenario


def test_it_is_off():
    assert not [one for one in render().objects if "flower" in one["metadata"]["name"]]


def test_without_authentication_it_is_refused_by_the_schema():
    said = refusal(STORES | {"flower": {"enabled": True}})
    assert "/flower/auth/existingSecret" in said


def test_it_asks_for_a_password_and_waits_for_no_store():
    found = scenario("full")
    env = found.env("flower")
    assert env["LEDGERQ_FLOWER_BASIC_AUTH"] == {"secretKeyRef": {"name": "flower", "key": "basic-auth"}}
    assert {"DATABASE_URL", "REDIS_URL"} <= env.keys()
    assert found.container("flower")["image"] == "registry.example.com/ledgerq/ledgerq-monitor:0.1.0"
    assert "initContainers" not in found.pod("flower")["spec"]
    ingress = found.one("Ingress", "flower")["spec"]["rules"][0]
    assert ingress["http"]["paths"][0]["backend"]["service"]["name"] == "lq-ledgerq-flower"
    assert found.one("HTTPRoute", "flower")["spec"]["rules"][0]["backendRefs"][0]["port"] == 5555
