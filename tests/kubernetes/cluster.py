"""kubectl and helm on the cluster of the run, and what its releases say."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support import wait

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "ledgerq"


def run(*command: str, timeout: float = 300, **variables: str) -> str:
    """Run a program; what it printed. A failure shows all of it."""
    program = shutil.which(command[0])
    assert program, f"{command[0]} is not on PATH"
    done = subprocess.run(
        [program, *command[1:]],
        env=os.environ | variables, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Namespace:
    """A namespace, and the release of the chart in it."""

    def __init__(self, name: str, release: str) -> None:
        self.name = name
        self.release = release

    def kubectl(self, *words: str, timeout: float = 300) -> str:
        """Run kubectl in the namespace."""
        return run("kubectl", "-n", self.name, *words, timeout=timeout)

    def helm(self, verb: str, *words: str, timeout: float = 400) -> str:
        """Run a command of helm on the release."""
        return run("helm", "-n", self.name, verb, self.release, *words, timeout=timeout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        program = shutil.which("kubectl")
        assert program
        subprocess.run([program, "-n", self.name, "apply", "-f", "-"], input=text, text=True, check=True, timeout=60)

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind, by labels."""
        return list(self._got(kind, *(["-l", selector] if selector else []))["items"])

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return self._got(kind, name)

    def _got(self, *words: str) -> dict[str, Any]:
        """What ``kubectl get`` says; a busy API server may not answer at once."""

        def got() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
            except AssertionError:
                return None
            return found

        return wait.until(got, 60, interval=1, what=f"kubectl get {' '.join(words)}") or {}

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret."""
        return base64.b64decode(self.one("secret", name)["data"][key]).decode()

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Pods of the release that have not ended and are not ending."""
        selector = f"app.kubernetes.io/instance={self.release}"
        if component:
            selector += f",app.kubernetes.io/component={component}"
        return [
            one
            for one in self.objects("pods", selector)
            if one["status"]["phase"] in ("Pending", "Running") and "deletionTimestamp" not in one["metadata"]
        ]

    def node_port(self, service: str) -> str:
        """The address at which a NodePort answers on this machine."""
        [port] = self.one("service", service)["spec"]["ports"]
        return f"http://127.0.0.1:{port['nodePort']}"

    def ask(self, url: str, **headers: str) -> tuple[int, str]:
        """What an address inside the cluster answers to a pod of the API."""
        script = (
            "import sys, urllib.request, urllib.error, json\n"
            "try:\n    a = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=json.loads(sys.argv[2])))\n"
            "except urllib.error.HTTPError as error:\n    a = error\n"
            "print(a.status, a.read().decode())"
        )
        words = ("exec", "deployment/ledgerq-api", "-c", "api", "--", "python", "-c", script, url, json.dumps(headers))

        def answer() -> str | None:
            # Ready pods are known everywhere a moment later.
            try:
                return self.kubectl(*words, timeout=60)
            except AssertionError:
                return None

        said = wait.until(answer, 60, interval=1, what=lambda: f"an answer of {url}; {self.picture()}") or ""
        status, _, body = said.partition(" ")
        return int(status), body

    def until_ready(self, timeout: float = 180) -> None:
        """Every Deployment and StatefulSet has all its pods, ready and new."""
        wait.until(lambda: not self._unready(), timeout, interval=1, what=self.picture)

    def _unready(self) -> list[str]:
        return [
            one["metadata"]["name"]
            for one in self.objects("deployments,statefulsets")
            if one["spec"].get("replicas", 1) != one["status"].get("readyReplicas", 0)
            or one["spec"].get("replicas", 1) != one["status"].get("updatedReplicas", 0)
            or one["status"].get("replicas", 0) != one["spec"].get("replicas", 1)
        ]

    def picture(self) -> str:
        """How it looks, for a failure."""
        pods = self.kubectl("get", "pods", "-o", "wide")
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp").splitlines()[-15:]
        return "\n".join([pods, *events])
