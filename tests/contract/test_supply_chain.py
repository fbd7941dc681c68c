"""What others wrote comes in by its hash or its digest, and no file says from where."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HASHED = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("requirements*.txt"), *ROOT.glob("services/*/requirements.txt"))
    if path.name != "requirements.txt" or path.parent != ROOT
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(name):
    """Name and version to the hashes."""
    entries = re.sub(r" \\\n", " ", read(name)).splitlines()
    found = {}
    for line in entries:
        if line and not line.startswith(("#", "-e")):
            pin, *hashes = line.split(" --hash=")
            found[pin.strip()] = hashes
    return found


def test_there_are_locks_for_what_make_and_the_images_install():
    assert {
        "requirements-lock.txt",
        "requirements-dev.txt",
        "requirements-build.txt",
        "services/api/requirements.txt",
    } <= set(HASHED)


@pytest.mark.parametrize("name", HASHED)
def test_every_requirement_has_one_version_and_a_hash_for_each_of_its_files(name):
    for pin, hashes in requirements(name).items():
        assert "==" in pin, pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one.strip()) for one in hashes), pin


@pytest.mark.parametrize("name", [*HASHED, "requirements.txt"])
def test_no_list_says_from_where(name):
    assert "://" not in read(name)
    assert "index" not in read(name)


def test_the_lock_is_the_users_requirements_txt_with_hashes():
    assert list(requirements("requirements-lock.txt")) == list(requirements("requirements.txt"))


@pytest.mark.parametrize("name", ["Makefile", "tests/load/Dockerfile", "services/install-in-image"])
def test_whatever_is_installed_from_a_list_is_held_against_its_hashes(name):
    installs = [
        line for line in read(name).splitlines() if " install " in line and re.search(r"-r \S*requirements", line)
    ]
    assert installs
    assert not [line for line in installs if "--require-hashes" not in line]


@pytest.fixture
def pin_images():
    spec = importlib.util.spec_from_file_location("pin_images", ROOT / "scripts" / "pin_images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pinning_finds_every_image_of_others_and_a_second_time_changes_the_digest_alone(pin_images):
    texts = {name: read(name) for name in pin_images.FILES}
    named = {"python", "postgres", "redis", "prom/prometheus", "grafana/grafana"}
    seen = set()

    def one(image):
        seen.add(image.partition(":")[0])
        return "sha256:" + "1" * 64

    for name, text in texts.items():
        first = pin_images.pinned(text, one)
        assert first != text, name
        assert not pin_images.unpinned(first), name
        assert pin_images.pinned(first, lambda _: "sha256:" + "2" * 64) == first.replace("1" * 64, "2" * 64)
    assert seen == named
    assert "postgres:17-bookworm@sha256:1" in pin_images.pinned(texts["deploy/compose/compose.yaml"], one)
    assert 'digest: "sha256:1' in pin_images.pinned(texts["deploy/helm/ledgerq/values.yaml"], one)


def test_an_image_that_is_not_pinned_is_named(pin_images):
    assert pin_images.unpinned("FROM postgres:17-bookworm\n") == ["postgres:17-bookworm"]
    assert pin_images.unpinned(f"FROM postgres:17@sha256:{'a' * 64}\n") == []
