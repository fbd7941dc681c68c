"""What the Compose stack's one-shot service writes: what is missing, and what was given."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "compose"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("secrets", "access", "observers", "given"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def write(root: Path) -> Callable[[], dict[str, str]]:
    """Run it; returns the text of every file that is there now."""

    def run() -> dict[str, str]:
        main: Any = runpy.run_path(str(FOLDER / "write_secrets.py"))["main"]
        main(root)
        return {str(path.relative_to(root)): path.read_text().strip() for path in root.glob("[!g]*/*")}

    return run


def test_everything_that_is_missing_is_made_once_and_differs(write, root: Path):
    first = write()
    assert set(first) == {
        "secrets/postgres_password", "secrets/redis_password", "secrets/database_url", "secrets/redis_url",
        "secrets/redis.acl", "secrets/ledgerq_flower_basic_auth", "access/flower_password", "observers/grafana_password",
    }  # fmt: skip
    passwords = {text for name, text in first.items() if name.endswith("_password")}
    assert len(passwords) == 4
    assert min(len(text) for text in passwords) >= 48
    assert urlsplit(first["secrets/database_url"]).password == first["secrets/postgres_password"]
    digest = hashlib.sha256(first["secrets/redis_password"].encode()).hexdigest()
    assert f"#{digest} " in first["secrets/redis.acl"]
    assert {path.stat().st_mode & 0o777 for path in root.glob("[!g]*/*")} == {0o444}
    assert write() == first


def test_what_is_given_wins_also_later_and_may_have_any_character(write, root: Path):
    before = write()
    (root / "given" / "postgres_password").write_text("p@ss/w:rd ü\n")
    (root / "given" / "api_key").write_text("k" * 43)
    (root / "given" / "redis_url").write_text("rediss://elsewhere.example:6380/1")
    (root / "given" / "database_replica_url").write_text("postgresql://u:p@standby.example/ledgerq")
    after = write()
    assert unquote(urlsplit(after["secrets/database_url"]).password or "") == "p@ss/w:rd ü"
    assert after["access/api_key"] == "k" * 43
    assert after["secrets/redis_url"] == "rediss://elsewhere.example:6380/1"
    assert after["secrets/database_replica_url"] == "postgresql://u:p@standby.example/ledgerq"
    assert after["observers/grafana_password"] == before["observers/grafana_password"]


def test_a_given_file_that_is_no_text_is_one_line(write, root: Path):
    (root / "given" / "api_key").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as ended:
        write()
    assert str(ended.value).startswith("secrets: cannot read api_key: ")


def test_make_secrets_writes_files_once_that_containers_can_read_and_neighbours_cannot(tmp_path: Path):
    (tmp_path / "secrets" / "files").mkdir(parents=True)
    script = tmp_path / "make-secrets"
    script.write_text((FOLDER / "make-secrets").read_text())

    def run() -> dict[str, str]:
        subprocess.run(["sh", str(script)], check=True, capture_output=True)  # noqa: S607
        return {path.name: path.read_text() for path in (tmp_path / "secrets" / "files").iterdir()}

    made = run()
    assert {"postgres_password", "redis_password", "api_key", "metrics_key", "grafana_password"} <= set(made)
    assert {len(text) for text in made.values()} == {64}
    assert len(set(made.values())) == len(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o004 for path in (tmp_path / "secrets" / "files").iterdir())
    assert run() == made
