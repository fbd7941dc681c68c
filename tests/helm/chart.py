"""The chart, rendered by the real helm."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "ledgerq"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
#: Helm 3, and Helm 4 where it is installed under a name of its own.
HELMS = [name for name in ("helm", "helm4") if shutil.which(name)]
RELEASE = "lq"
NAMESPACE = "somewhere"
STORES = {"database": {"existingSecret": "stores"}, "redis": {"existingSecret": "stores"}}

Object = dict[str, Any]


class Rendered:
    """The objects of a release."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[Object] = [one for one in yaml.safe_load_all(text) if one]

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The object ``name``, without the release's part of it."""
        [found] = [one for one in self.all(kind) if one["metadata"]["name"] == f"{RELEASE}-ledgerq-{name}"]
        return found

    def names(self, kind: str) -> list[str]:
        """Names of the objects of a kind, without the release's part."""
        return sorted(one["metadata"]["name"].removeprefix(f"{RELEASE}-ledgerq-") for one in self.all(kind))

    def pod(self, component: str) -> Object:
        """The pod of a component's Deployment."""
        found: Object = self.one("Deployment", component)["spec"]["template"]
        return found

    def container(self, component: str) -> Object:
        """The one container of a component's pods."""
        [found] = self.pod(component)["spec"]["containers"]
        return dict(found)

    def env(self, component: str) -> dict[str, Any]:
        """Environment of a component's container: a text, or where it comes from."""
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in self.container(component)["env"]}

    def pods(self) -> dict[str, Object]:
        """The spec of every pod that the release makes, by kind and name."""
        found = {}
        for one in self.objects:
            where = f"{one['kind']}/{one['metadata']['name']}"
            if one["kind"] == "Pod":
                found[where] = one["spec"]
            elif one["kind"] in ("Deployment", "StatefulSet", "Job"):
                found[where] = one["spec"]["template"]["spec"]
        return found


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those of its beginning, too."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def scenario(name: str, helm: str = HELMS[0] if HELMS else "helm") -> Rendered:
    """The chart with a file of `ci/`."""
    return _template(helm, str(CHART / "ci" / f"{name}-values.yaml"), "{}")


def render(**values: Any) -> Rendered:
    """The chart with stores in existing Secrets, and ``values``."""
    return _template(HELMS[0], None, json.dumps(STORES | values))


def refusal(values: Object, helm: str = HELMS[0] if HELMS else "helm") -> str:
    """What helm says when it refuses ``values``, which have to name the stores themselves."""
    return _refusal(helm, json.dumps(values))


def run(helm: str, verb: str, *arguments: str, values: Object) -> subprocess.CompletedProcess[str]:
    """Run a command of helm that takes a chart and values."""
    return _run(helm, verb, None, json.dumps(values), *arguments)


@functools.cache
def _template(helm: str, file: str | None, values: str) -> Rendered:
    done = _run(helm, "template", file, values)
    assert done.returncode == 0, done.stderr
    return Rendered(done.stdout)


@functools.cache
def _refusal(helm: str, values: str) -> str:
    done = _run(helm, "template", None, values)
    assert done.returncode != 0, f"not refused: {values}"
    return done.stderr


def _run(helm: str, verb: str, file: str | None, values: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(helm)
    assert program, f"{helm} is not on PATH"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as own:
        own.write(values)
        own.flush()
        files = [word for name in (file, own.name) if name for word in ("--values", name)]
        release = [] if verb == "lint" else [RELEASE, "--namespace", NAMESPACE]
        return subprocess.run(
            [program, verb, *release, str(CHART), *files, *arguments], capture_output=True, text=True, check=False
        )
