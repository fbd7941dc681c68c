"""Every file of `ci/` with every helm: it renders, lints, and is what Kubernetes' own schemas allow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, HELMS, RELEASE, SCENARIOS, run, scenario

#: Where the lab unpacks the schemas of Kubernetes, KEDA and the Prometheus operator.
SCHEMAS = Path(os.environ.get("KUBERNETES_SCHEMAS", "/usr/local/lib/lab/schemas"))

BOTH = pytest.mark.parametrize("helm", HELMS)
EACH = pytest.mark.parametrize("name", SCENARIOS)


def values_of(name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text("utf-8"))
    return found


@BOTH
@EACH
def test_it_lints_strictly(name, helm):
    done = run(helm, "lint", "--strict", values=values_of(name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr


@BOTH
@EACH
def test_every_object_is_valid_by_the_schema_of_its_kind(name, helm):
    program = shutil.which("kubeconform")
    if program is None or not SCHEMAS.is_dir():
        pytest.skip(f"kubeconform, or the schemas in {SCHEMAS}, are not there")
    rendered = scenario(name, helm)
    # The lab has no schema of the Gateway API; nothing else may be unknown.
    done = subprocess.run(
        [program, "-strict", "-output", "json", "-skip", "HTTPRoute", "-schema-location", str(SCHEMAS)],
        input=rendered.text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["resources"] == [], done.stdout
    assert done.returncode == 0


@EACH
def test_both_helms_make_the_same_objects(name):
    def shape(helm: str) -> list[dict[str, object]]:
        # What the chart makes up differs each time; that it is there does not.
        secret = f"{RELEASE}-ledgerq-secrets"
        return [
            one | {"stringData": sorted(one["stringData"])} if one["metadata"]["name"] == secret else nameless(one)
            for one in scenario(name, helm).objects
        ]

    def nameless(one: dict[str, Any]) -> dict[str, Any]:
        """The plain Job's name is a hash of the values, which the two hold differently."""
        name = re.sub("-migrate-[0-9a-f]{8}$", "-migrate", one["metadata"]["name"])
        return one | {"metadata": one["metadata"] | {"name": name}}

    shapes = [shape(helm) for helm in HELMS]
    assert all(one == shapes[0] for one in shapes)


@EACH
def test_no_object_is_made_twice(name):
    names = [(one["kind"], one["metadata"]["name"]) for one in scenario(name).objects]
    assert len(names) == len(set(names))


@EACH
def test_names_fit_and_every_object_says_whose_it_is(name):
    for one in scenario(name).objects:
        if one["metadata"]["name"] == "further":
            continue
        assert len(one["metadata"]["name"]) <= 63
        labels = one["metadata"]["labels"]
        assert (labels["app.kubernetes.io/instance"], labels["app.kubernetes.io/name"]) == ("lq", "ledgerq")


def test_the_full_scenario_renders_every_template():
    templates = {
        path.relative_to(CHART).as_posix()
        for path in (CHART / "templates").rglob("*.yaml")
        if path.name != "validations.yaml"
    }
    rendered: set[str] = set()
    for name in SCENARIOS:
        lines = scenario(name).text.splitlines()
        rendered |= {line.removeprefix("# Source: ledgerq/") for line in lines if line.startswith("# Source: ")}
    assert templates - rendered == set()
