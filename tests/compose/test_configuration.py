"""The files are valid in every combination, whatever the user's `.env` says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.compose.conftest import ROOT
from tests.support.compose import LONG_RUNNING, ONCE, USERS_ENV, ComposeStack, copy_tree

if TYPE_CHECKING:
    from pathlib import Path

DEVELOPMENT = "-f deploy/compose/compose.yaml -f deploy/compose/compose.dev.yaml"


@pytest.fixture(scope="module")
def tree(folder: Path) -> Path:
    return copy_tree(ROOT, folder / "configuration")


@pytest.mark.parametrize("profile", ["", "monitoring", "prometheus", "load", "*"])
@pytest.mark.parametrize("files", ["", DEVELOPMENT], ids=["root", "development"])
def test_every_profile_is_valid(tree: Path, files: str, profile: str):
    stack = ComposeStack("ledgerq-config", tree)
    text = stack.sh(f"docker compose {files} --profile '{profile}' config --format json").stdout
    services = json.loads(text)["services"]
    assert {*LONG_RUNNING, *ONCE} <= set(services)
    assert ("prometheus" in services) == (profile in ("monitoring", "prometheus", "*"))
    assert ("grafana" in services) == (profile in ("monitoring", "*"))
    assert ("locust" in services) == (profile in ("load", "*"))


def test_nothing_of_the_users_env_file_gets_into_the_stack(tree: Path):
    text = ComposeStack("ledgerq-config", tree).sh("docker compose --profile '*' config").stdout
    for line in USERS_ENV.splitlines():
        name, _, value = line.partition("=")
        assert value not in text or value in ("9", "true"), name
        assert f"{name}:" not in text or name == "LEDGERQ_TASK_MODULES"


def test_only_what_people_open_is_published_and_on_loopback_unless_told_otherwise(tree: Path):
    def published(**variables: str) -> dict[str, set[str]]:
        stack = ComposeStack("ledgerq-config", tree, variables)
        services = json.loads(stack.sh("docker compose --profile '*' config --format json").stdout)["services"]
        return {name: {port["host_ip"] for port in one["ports"]} for name, one in services.items() if one.get("ports")}

    usual = published()
    assert set(usual) <= {"api", "flower", "prometheus", "grafana", "locust"}
    assert "api" in usual
    assert {address for addresses in usual.values() for address in addresses} == {"127.0.0.1"}
    assert {address for addresses in published(LEDGERQ_STACK_ADDRESS="0.0.0.0").values() for address in addresses} == {
        "0.0.0.0"
    }


#: The services that run our code, except `secrets`, which writes no log.
OURS = {*LONG_RUNNING, *ONCE} - {"postgres", "redis", "secrets"}


def test_all_services_log_as_one_variable_says_and_as_the_users_own_file_says_rather(tree: Path):
    def formats(**variables: str) -> set[str]:
        stack = ComposeStack("ledgerq-config", tree, variables)
        services = json.loads(stack.sh("docker compose config --format json").stdout)["services"]
        return {services[name]["environment"]["LEDGERQ_LOG_FORMAT"] for name in OURS}

    assert formats() == {"auto"}
    assert formats(LEDGERQ_STACK_LOG_FORMAT="console") == {"console"}
    own = tree / "deploy" / "compose" / "ledgerq.env"
    own.write_text("LEDGERQ_LOG_FORMAT=json\nLEDGERQ_API_ACCESS_LOG=true\n")
    try:
        assert formats(LEDGERQ_STACK_LOG_FORMAT="console") == {"json"}
    finally:
        own.unlink()


def test_every_image_can_be_another(tree: Path):
    names = ("API", "WORKER", "MONITOR", "POSTGRES", "REDIS", "PROMETHEUS", "GRAFANA", "LOCUST")
    others = {f"LEDGERQ_STACK_{name}_IMAGE": f"elsewhere.example/{name.lower()}:9" for name in names}
    stack = ComposeStack("ledgerq-config", tree, others)
    images = set(stack.sh("docker compose --profile '*' config --images").stdout.split())
    assert images == set(others.values())
