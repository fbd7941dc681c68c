"""The Compose files without Docker: which variables they read, and that the users' .env cannot get in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "compose"
FILES = (ROOT / "compose.yaml", FOLDER / "compose.yaml", FOLDER / "compose.dev.yaml", FOLDER / "services.env")
EXAMPLE = FOLDER / ".env.example"


def read() -> set[tuple[str, str]]:
    """Variables and defaults of all interpolations."""
    text = "\n".join(path.read_text("utf-8") for path in FILES)
    found = set(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))
    assert len(found) > 20
    assert len(re.findall(r"(?<!\$)\$\{?\w", text)) == len(re.findall(r"(?<!\$)\$\{\w+:-", text)), "without a default"
    return found


def test_the_example_has_every_variable_with_its_default():
    lines = [line for line in EXAMPLE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert sorted(tuple(line.split("=", 1)) for line in lines) == sorted(read())


def test_nothing_that_main_py_reads_is_read_here():
    assert {name for name, _ in read() if not name.startswith("LEDGERQ_STACK_")} == {"PIP_INDEX_URL"}


def test_every_pin_of_an_image_is_one_version():
    images = [default for name, default in read() if name.endswith("_IMAGE")]
    assert len(images) == len(set(images)) > 5
    assert not [image for image in images if ":" not in image or image.endswith(":latest")]


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["services"]
    return found


def test_one_variable_says_how_all_services_of_ours_log_and_the_users_own_file_has_the_last_word():
    assert "LEDGERQ_LOG_FORMAT=${LEDGERQ_STACK_LOG_FORMAT:-auto}" in (FOLDER / "services.env").read_text("utf-8")
    ours = {
        name: service
        for name, service in services().items()
        if re.search(r"STACK_(API|WORKER|MONITOR)_IMAGE", service["image"]) and name != "secrets"  # which only prints
    }
    assert len(ours) == 7
    for name, service in ours.items():
        assert service["env_file"] == ["services.env", {"path": "ledgerq.env", "required": False}], name
        assert "LEDGERQ_LOG_FORMAT" not in service["environment"], name


def test_prometheus_starts_without_grafana_and_grafana_not_without_prometheus():
    profiles = {name: set(services()[name]["profiles"]) for name in ("prometheus", "grafana")}
    assert profiles == {"prometheus": {"monitoring", "prometheus"}, "grafana": {"monitoring"}}
    assert "grafana" not in services()["prometheus"]["depends_on"]
