"""Three PostgreSQL pods that Patroni looks after, with Kubernetes itself for what etcd is elsewhere."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.kubernetes.cluster import Namespace
from tests.support import wait

_NAME = "pg"
_PASSWORD = "not-a-secret-here"
_LABELS = {"application": "patroni", "cluster-name": _NAME}


class Patroni:
    """A StatefulSet of Patroni, in a namespace that is there.

    Args:
        dcs: what the nodes agree on, as `bootstrap.dcs` has it.
    """

    def __init__(self, namespace: Namespace, dcs: dict[str, Any], *, nodes: int = 3) -> None:
        self._namespace = namespace
        self._nodes = nodes
        namespace.apply(*self._rights(), self._configuration(dcs), self._service(), self._pods())

    @property
    def url(self) -> str:
        """All servers, in no particular order."""
        places = ",".join(f"{_NAME}-{number}.{_NAME}:5432" for number in range(self._nodes))
        return f"postgresql://ledgerq:secret@{places}/ledgerq"

    def execute(self, *statements: str) -> None:
        """As the superuser, on the leader."""
        where = f"host=127.0.0.1 user=postgres password={_PASSWORD}"
        for one in statements:
            self._namespace.kubectl("exec", self.settle(), "--", "psql", "-v", "ON_ERROR_STOP=1", where, "-c", one)

    def leader(self) -> str | None:
        """The pod that holds the leader's lock and says that it takes writes; None: none does just now."""
        found = self._namespace.objects("pods", f"cluster-name={_NAME},role=primary")
        holder = self._annotations("leader").get("leader")
        names = [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]
        return holder if holder in names else None

    def settle(self, timeout: float = 120) -> str:
        """Wait until all pods are ready and one standby is synchronous; returns who leads."""
        wait.until(self._is_settled, timeout, interval=1, what=self.picture)
        return self.leader() or ""

    def lose(self, pod: str) -> None:
        """A pod and its data are gone at once, as with its host."""
        self._namespace.kubectl("delete", "pod", pod, "--wait=false", "--grace-period=0", "--force")
        wait.until(lambda: self._has_moved(pod), 120, interval=0.5, what=self.picture)

    def stop(self, pod: str) -> None:
        """A pod is asked to end, as when its node is drained."""
        self._namespace.kubectl("delete", "pod", pod, "--wait=false")
        wait.until(lambda: self._has_moved(pod), 120, interval=0.5, what=self.picture)

    def picture(self) -> str:
        """How it looks, for a failure."""
        logs = [
            self._namespace.kubectl("logs", f"{_NAME}-{number}", "--tail=8", "--ignore-errors")
            for number in range(self._nodes)
        ]
        return "\n".join([self._namespace.picture(), *logs])

    def _has_moved(self, pod: str) -> bool:
        return self.leader() not in (None, pod)

    def _is_settled(self) -> bool:
        pods = self._namespace.objects("pods", f"cluster-name={_NAME}")
        ready = [
            one
            for one in pods
            if "deletionTimestamp" not in one["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", []))
        ]
        return len(ready) == self._nodes and bool(self.leader()) and bool(self._annotations("sync").get("sync_standby"))

    def _annotations(self, what: str) -> dict[str, str]:
        """Of the object in which Patroni keeps who leads (``leader``) or who is synchronous (``sync``)."""
        for one in self._namespace.objects("configmaps", f"cluster-name={_NAME}"):
            if one["metadata"]["name"] == f"{_NAME}-{what}":
                return dict(one["metadata"].get("annotations", {}))
        return {}

    def _rights(self) -> list[dict[str, Any]]:
        everything = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        rules = [{"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": everything}]
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _NAME}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": _NAME},
                "rules": rules,
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": _NAME},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": _NAME},
                "subjects": [{"kind": "ServiceAccount", "name": _NAME}],
            },
        ]

    def _configuration(self, dcs: dict[str, Any]) -> dict[str, Any]:
        configuration = {
            "bootstrap": {"dcs": dcs, "initdb": [{"encoding": "UTF8"}, "no-locale", "data-checksums"]},
            "postgresql": {
                "data_dir": "/var/lib/postgresql/data",
                "pgpass": "/tmp/pgpass",
                "authentication": {
                    "superuser": {"username": "postgres", "password": _PASSWORD},
                    "replication": {"username": "replicator", "password": _PASSWORD},
                },
                "pg_hba": ["host all all all scram-sha-256", "host replication replicator all scram-sha-256"],
            },
        }
        text = json.dumps(configuration)  # JSON is YAML
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "patroni"},
            "data": {"patroni.yml": text},
        }

    def _service(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _NAME},
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _LABELS},
        }

    def _pods(self) -> dict[str, Any]:
        own = {"POD_IP": "status.podIP", "PATRONI_KUBERNETES_NAMESPACE": "metadata.namespace"}
        own |= {"PATRONI_NAME": "metadata.name"}
        fixed = {
            "PATRONI_SCOPE": _NAME,
            "PATRONI_KUBERNETES_LABELS": json.dumps(_LABELS),
            "PATRONI_KUBERNETES_POD_IP": "$(POD_IP)",
            "PATRONI_RESTAPI_LISTEN": "0.0.0.0:8008",
            "PATRONI_RESTAPI_CONNECT_ADDRESS": "$(POD_IP):8008",
            "PATRONI_POSTGRESQL_LISTEN": "0.0.0.0:5432",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": "$(POD_IP):5432",
        }
        env: list[dict[str, Any]] = [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in own.items()
        ]
        env += [{"name": name, "value": value} for name, value in fixed.items()]
        container = {
            "name": "patroni",
            "image": os.environ["LEDGERQ_CLUSTER_PATRONI"],
            "imagePullPolicy": "IfNotPresent",
            "env": env,
            "readinessProbe": {"httpGet": {"path": "/readiness", "port": 8008}, "periodSeconds": 2},
            "volumeMounts": [
                {"name": "configuration", "mountPath": "/etc/patroni"},
                {"name": "data", "mountPath": "/var/lib/postgresql"},
            ],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": _NAME, "labels": _LABELS},
            "spec": {
                "serviceName": _NAME,
                "replicas": self._nodes,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": _LABELS},
                "template": {
                    "metadata": {"labels": _LABELS},
                    "spec": {
                        "serviceAccountName": _NAME,
                        "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
                        "terminationGracePeriodSeconds": 30,
                        "containers": [container],
                        "volumes": [
                            {"name": "configuration", "configMap": {"name": "patroni"}},
                            {"name": "data", "emptyDir": {}},
                        ],
                    },
                },
            },
        }
