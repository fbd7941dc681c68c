"""`ledgerq-migrate doctor`: what is not well is named, and nothing is left behind."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import ledgerq_shared
from ledgerq_shared.doctor.rehearsal import rehearse
from ledgerq_shared.postgres.database import Database
from tests.support import databases

COUNTS = """SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM worker), (SELECT count(*) FROM task_event),
            (SELECT count(*) FROM leader), (SELECT count(*) FROM task_type), (SELECT count(*) FROM ready)"""


def doctor(url: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ledgerq_shared.migrate", "doctor", url],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_well_ledger_is_well_and_nothing_of_the_visit_is_left(database: str):
    before = databases.rows(database, COUNTS)
    code, text = doctor(database)
    assert code == 0, text
    assert "FAILS" not in text
    assert databases.rows(database, COUNTS) == before


def test_every_statement_with_a_name_is_rehearsed(database: str):
    found = Database(database, application_name="test", keeps_statements=True)
    rehearsal = rehearse(found)
    found.close()
    assert rehearsal.refused == {}
    folder = Path(ledgerq_shared.__file__).parent / "statements"
    calls = [
        node
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Statement"
    ]
    named = {ast.literal_eval(call.args[2]) for call in calls if len(call.args) == 3}
    assert {"claim_tasks", "submit_plain_tasks", "record_ended", "renew_lease", "take_leadership"} <= named
    assert named <= set(rehearsal.names)


def test_what_fails_is_named_with_what_to_do_and_an_exit_code(database: str, postgres_url: str):
    databases.set_for_all(database, synchronous_commit="off")
    databases.execute(database, "ALTER TABLE claim DROP COLUMN claimed_at CASCADE")
    code, text = doctor(database, LEDGERQ_REQUIRE_SYNC="1")
    assert code == 1
    assert re.search(r"FAILS +synchronous_commit +off: .*Set it to on", text), text
    assert re.search(r"FAILS +standbys +LEDGERQ_REQUIRE_SYNC=1: ", text), text
    assert re.search(r"FAILS +statement claim_tasks +.*claimed_at.* \(SQLSTATE 42703\)", text), text
    empty = databases.create(postgres_url)
    code, text = doctor(empty)
    assert (code, "run `ledgerq-migrate upgrade` first" in text) == (1, True), text
    databases.drop(postgres_url, empty)


def test_a_role_that_may_not_write_or_make_partitions_is_told_so(database: str):
    name = urlsplit(database).path[1:]
    databases.execute(
        database, f"CREATE ROLE r_{name} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO r_{name}"
    )
    parts = urlsplit(database)
    code, text = doctor(f"postgresql://r_{name}:x@{parts.hostname}:{parts.port}/{name}")
    databases.execute(database, f"DROP OWNED BY r_{name}; DROP ROLE r_{name}")
    assert code == 1
    assert re.search(r"change +privileges +", text), text
    assert re.search(r"FAILS +statement submit_plain_tasks +permission denied", text), text


def test_nobody_there_or_no_url_is_one_line(database: str):
    for url in (re.sub(r":\d+/", ":1/", database), "nonsense", "postgresql://u:secret@h1,,h2/d"):
        code, text = doctor(url)
        assert (code, len(text.splitlines())) == (2, 1), text
        assert "secret" not in text
