"""The three images: what is in them, and what is not."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.compose import docker

if TYPE_CHECKING:
    from tests.support.compose import ComposeStack

SERVICES = ("api", "worker", "monitor")
#: An image may be larger than its Python base by so much, in bytes.
ABOVE_BASE = 122_000_000
FOREIGN = {
    "api": ["ledgerq_worker", "ledgerq_monitor", "clients"],
    "worker": ["ledgerq_api", "ledgerq_monitor", "fastapi"],
    "monitor": ["ledgerq_api", "ledgerq_worker", "clients", "fastapi"],
}


def image(built: ComposeStack, service: str) -> str:
    return f"{built.project}-{service}:test"


def run(built: ComposeStack, service: str, *command: str) -> subprocess.CompletedProcess[str]:
    """As a careful operator would: nothing writable but /tmp, no capability, nobody's user id."""
    return subprocess.run(
        ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",  # noqa: S607
         "--user", "54321:54321", "--network", "none", image(built, service), *command],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_its_service_and_no_other(built: ComposeStack, service: str):
    check = (
        "import importlib.util, json, sys\n"
        f"names = ['ledgerq_shared', 'ledgerq_{service}', *{FOREIGN[service]!r}, 'ledgerq_shared.embedded']\n"
        "print(json.dumps([name for name in names if importlib.util.find_spec(name)]))"
    )
    found = json.loads(run(built, service, "python", "-c", check).stdout)
    assert [name for name in found if name != "ledgerq_shared.embedded"] == ["ledgerq_shared", f"ledgerq_{service}"]
    refused = run(built, service, "python", "-c", f"import {FOREIGN[service][0]}")
    assert refused.returncode == 1
    assert "ModuleNotFoundError" in refused.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_small_labelled_and_runs_as_a_number(built: ComposeStack, base_image: str, service: str):
    [made] = json.loads(docker("image", "inspect", image(built, service)))
    [base] = json.loads(docker("image", "inspect", base_image))
    assert made["Size"] - base["Size"] <= ABOVE_BASE
    config = made["Config"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"][0].startswith("ledgerq-"), "exec form: the process is the service, so signals arrive"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.removeprefix("org.opencontainers.image.") for name in config["Labels"]}
    assert {"title", "description", "licenses", "version", "revision"} <= labels


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_knows_no_package_index(built: ComposeStack, base_image: str, service: str):
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image(built, service))
    of_base = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", base_image)
    ours = [line for line in history.splitlines() if line not in of_base.splitlines()]
    assert ours
    assert not [line for line in ours if "index" in line.lower() or "://" in line]
    listed = run(built, service, "sh", "-c", "ls /etc/pip.conf /opt/ledgerq/pip.conf /run/secrets 2>/dev/null; true")
    assert not listed.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_can_migrate_and_says_in_one_line_what_it_lacks(built: ComposeStack, service: str):
    done = run(built, service, "ledgerq-migrate", "upgrade")
    assert done.returncode == 2
    assert (done.stdout + done.stderr).splitlines() == ["ledgerq-migrate: DATABASE_URL is not set"]


@pytest.mark.parametrize("service", SERVICES)
def test_the_wheels_are_of_one_layer_and_the_code_of_another(built: ComposeStack, service: str):
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}\t{{.Size}}", image(built, service))
    copies = [line for line in history.splitlines() if line.startswith("COPY")]
    assert len(copies) == 2
    code, wheels = (line.rpartition("\t")[2] for line in copies)
    assert wheels.endswith("MB")
    assert code.endswith("kB") or float(code.removesuffix("MB")) < 5


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_of_which_parts_it_is_made_and_under_which_licences(built: ComposeStack, service: str):
    listed = run(built, service, "/opt/ledgerq/bin/python", "-c", (
        "import importlib.metadata, json;"
        "print(json.dumps([[d.metadata['Name'], d.version] for d in importlib.metadata.distributions()]))"
    ))  # fmt: skip
    installed = {(name.lower().replace("_", "-"), version) for name, version in json.loads(listed.stdout)}
    assert ("ledgerq-shared", "0.1.0") in installed
    parts = json.loads(run(built, service, "cat", "/usr/share/ledgerq/sbom.cdx.json").stdout)
    assert parts["bomFormat"] == "CycloneDX"
    assert {(one["name"].lower().replace("_", "-"), one["version"]) for one in parts["components"]} == installed
    texts = run(built, service, "cat", "/usr/share/ledgerq/third-party-licences.txt").stdout
    lines = texts.lower().replace("_", "-").splitlines()
    assert {name for name, _ in installed if not name.startswith("ledgerq-")} <= set(lines)
    assert "Permission is hereby granted" in texts
    assert "MIT License" in run(built, service, "cat", "/usr/share/ledgerq/LICENSE").stdout
