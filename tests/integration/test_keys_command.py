"""`ledgerq keys create | list | revoke`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ledgerq_api.auth.keys import digest_of, is_key
from tests.support import databases
from tests.support.ports import free_port


@pytest.fixture
def ledgerq(database):
    def run(*arguments, **environment):
        variables = {"DATABASE_URL": database, "REDIS_URL": "redis://127.0.0.1:1/0", **environment}
        return subprocess.run(
            [sys.executable, "-m", "ledgerq_api.cli", *arguments],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def stored(database):
    return databases.rows(database, "SELECT id, sha256, name, scopes FROM api_key ORDER BY created_at")


def one_line(done, code):
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("ledgerq: ")
    return line


def test_the_command_finds_the_embedded_servers_and_env_as_the_launcher_does(bare_stack, database):
    (bare_stack.folder / ".ledgerq").mkdir()
    urls = f"DATABASE_URL={database}\nREDIS_URL=redis://127.0.0.1:1/0\n"
    found = bare_stack.folder / ".ledgerq" / "urls.env"
    found.write_text(urls)
    assert "no API key was ever made" in bare_stack.run("-m", "ledgerq_api.cli", "keys", "list")
    (bare_stack.folder / ".env").write_text(urls)
    found.unlink()
    assert "no API key was ever made" in bare_stack.run("-m", "ledgerq_api.cli", "keys", "list")


def test_a_key_is_shown_once_and_only_its_digest_is_kept(ledgerq, database):
    done = ledgerq("keys", "create", "--name", "CI 构建", "--scope", "tasks:submit", "--scope", "tasks:read")
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert is_key(key)
    [(key_id, sha256, name, scopes)] = stored(database)
    assert (bytes(sha256), name, scopes) == (digest_of(key.encode()), "CI 构建", ["tasks:read", "tasks:submit"])
    assert key_id in done.stderr
    listed = ledgerq("keys", "list")
    assert all(text in listed.stdout for text in (key_id, "CI 构建", "tasks:read tasks:submit", "usable"))
    assert key not in listed.stdout


def test_json_is_for_machines(ledgerq):
    made = json.loads(ledgerq("keys", "create", "--name", "a", "--scope", "admin", "--expires", "2h", "--json").stdout)
    assert is_key(made["key"])
    assert made["scopes"] == ["admin"]
    assert made["expires_at"].endswith("Z")
    revoked = json.loads(ledgerq("keys", "revoke", made["id"], "--json").stdout)
    assert revoked == {"id": made["id"], "state": "revoked", "changed": True}
    [listed] = json.loads(ledgerq("keys", "list", "--json").stdout)
    assert (listed["id"], listed["state"], listed["name"]) == (made["id"], "revoked", "a")
    assert "key" not in listed


def test_revoking_again_says_so_and_an_unknown_id_is_one_line(ledgerq):
    made = json.loads(ledgerq("keys", "create", "--scope", "admin", "--json").stdout)
    assert ledgerq("keys", "revoke", made["id"]).stdout == f"key {made['id']} is revoked\n"
    assert ledgerq("keys", "revoke", made["id"]).stdout == f"key {made['id']} was revoked already\n"
    assert "nobody" in one_line(ledgerq("keys", "revoke", "nobody"), 1)


def test_if_none_makes_a_key_once_and_knows_it_again(ledgerq, database, empty_database, workspace):
    file = workspace / "api-key"
    create = ("keys", "create", "--name", "first", "--scope", "admin", "--file", str(file), "--if-none")
    assert "a new key is in" in ledgerq(*create).stdout
    text = file.read_text()
    assert is_key(text.strip())
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is known" in ledgerq(*create).stdout
    assert len(stored(database)) == 1
    # Another ledger, the same file: its key is made known there.
    databases.migrate(empty_database)
    assert "the key in" in ledgerq(*create, DATABASE_URL=empty_database).stdout
    [(_, sha256, _, _)] = stored(empty_database)
    assert bytes(sha256) == digest_of(text.strip().encode())
    assert file.read_text() == text


def test_a_revoked_key_in_a_file_stays_revoked(ledgerq, workspace):
    file = workspace / "api-key"
    create = ("keys", "create", "--scope", "admin", "--file", str(file), "--if-none", "--json")
    key_id = json.loads(ledgerq(*create).stdout)["id"]
    ledgerq("keys", "revoke", key_id)
    again = ledgerq(*create)
    assert again.returncode == 0
    assert json.loads(again.stdout)["state"] == "revoked"
    assert "remove" in again.stderr


def test_a_key_that_cannot_be_written_does_not_stay_usable(ledgerq, database, workspace):
    line = one_line(ledgerq("keys", "create", "--scope", "admin", "--file", str(workspace / "no" / "file")), 1)
    assert "cannot write" in line
    assert databases.rows(database, "SELECT count(*) FROM api_key WHERE revoked_at IS NULL") == [(0,)]


def test_a_file_is_not_overwritten_and_must_hold_a_key(ledgerq, database, workspace):
    file = workspace / "api-key"
    file.write_text("x" * 43)
    assert "holds a key already" in one_line(ledgerq("keys", "create", "--scope", "admin", "--file", str(file)), 1)
    file.write_text("changeme")
    wrong = ledgerq("keys", "create", "--scope", "admin", "--file", str(file), "--if-none")
    assert "does not hold an API key" in one_line(wrong, 1)
    assert stored(database) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--scope"),
        (("--scope", "admin", "--expires", "soon"), "--expires"),
        (("--scope", "admin", "--expires", "99999d"), "--expires"),
        (("--scope", "admin", "--name", ""), "--name"),
        (("--scope", "admin", "--if-none"), "--file"),
        (("--scope", "admin", "--file", "x", "--mode", "rw"), "--mode"),
    ],
)
def test_what_is_given_wrong_is_one_line(ledgerq, database, arguments, word):
    assert word in one_line(ledgerq("keys", "create", *arguments), 2)
    assert stored(database) == []


def test_an_unknown_scope_is_refused_with_those_that_there_are(ledgerq):
    done = ledgerq("keys", "create", "--scope", "root")
    assert done.returncode == 2
    assert "tasks:control" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_is_away_or_older_is_one_line(ledgerq, empty_database):
    away = f"postgresql://u:secret@127.0.0.1:{free_port()}/x"
    line = one_line(ledgerq("keys", "list", DATABASE_URL=away), 1)
    assert "secret" not in line
    assert "ledgerq-migrate" in one_line(ledgerq("keys", "list", DATABASE_URL=empty_database), 1)
    assert "DATABASE_URL" in one_line(ledgerq("keys", "list", DATABASE_URL="mysql://x"), 2)
