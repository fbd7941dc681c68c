"""The chart on a PostgreSQL that fails over: three pods with Patroni, configured by docs/guides/high-availability.md."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kubernetes.cluster import CHART, Namespace, run
from tests.kubernetes.load import Api, Load
from tests.kubernetes.patroni_cluster import Patroni
from tests.kubernetes.test_live import store
from tests.support import guides

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "LEDGERQ_CLUSTER_PATRONI" not in os.environ, reason="no image of Patroni: its packages are not to be had here"
    ),
]


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    found = Namespace("failing-over", "ledgerq")
    run("kubectl", "create", "namespace", found.name)
    yield found
    run("kubectl", "delete", "namespace", found.name, "--ignore-not-found", "--wait=false")


def test_the_leaders_pod_is_lost_and_another_is_drained_under_load_and_no_task_is_lost_or_made_twice(
    namespace: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cluster = Patroni(namespace, guides.dcs())
    namespace.apply(*store("valkey", "redis:7", 6379, 999))
    cluster.execute(*guides.statements())
    values = yaml.safe_load(guides.block(guides.HIGH_AVAILABILITY, "podDefaults:", "yaml"))
    secret = values["database"]["existingSecret"]
    namespace.kubectl("create", "secret", "generic", secret, f"--from-literal=DATABASE_URL={cluster.url}")
    # Fewer pods than one would run: this machine does everything at once.
    values |= {
        "redis": {"url": "redis://valkey:6379/0"},
        "api": {"service": {"type": "NodePort"}},
        "maintenance": {"replicas": 1},
        "monitor": {"enabled": False},
    }
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values))
    run(
        "helm", "-n", namespace.name, "install", namespace.release, str(CHART), "--values", str(path), "--wait",
        "--timeout", "4m",
    )  # fmt: skip
    doctor = namespace.kubectl("exec", "deployment/ledgerq-api", "-c", "api", "--", "ledgerq-migrate", "doctor")
    assert "FAILS" not in doctor, doctor
    api = Api(namespace.node_port("ledgerq-api"), namespace.secret("ledgerq-secrets", "admin-key"))
    with Load(api, clients=4, every=0.1) as load:
        for name, fault in (("lost", cluster.lose), ("drained", cluster.stop)):
            leader = cluster.settle()
            load.more(10)
            load.begin_anew()
            fault(leader)
            load.more(10)
            with capsys.disabled():
                print(f"{leader} {name}: refused {load.longest:.1f} s, {len(load.ids)} accepted so far")  # noqa: T201
            assert load.longest <= guides.dcs()["ttl"] + 5
    api.check(load.ids)
    assert api.count() == len(load.ids)
