"""What a statement says of its rows, mypy holds its callers to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: With what mypy has against each line: the code of its error.
_CALLER = """
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import hand_back
from ledgerq_shared.statements.workers import find_lost_workers

def call(database: Database) -> None:
    for task_id, queue, is_cancelled in database.fetch(hand_back({})):
        task_id.upper(), queue.upper(), is_cancelled.bit_count()
    for task_id, queue in database.fetch(hand_back({})):  # [misc]
        pass
    for worker in database.fetch(find_lost_workers()):
        worker.lease_until.isoformat()
        worker.name.year  # [attr-defined]

def build() -> Statement:  # [type-arg]
    return hand_back({})
"""


def test_a_wrong_unpacking_is_refused_and_so_is_a_builder_that_does_not_say_its_rows(tmp_path: Path):
    module = tmp_path / "caller.py"
    module.write_text(_CALLER)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(module)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = re.findall(r":(\d+): error: .*(\[[\w-]+\])$", answer.stdout, re.MULTILINE)
    lines = [line.partition("  # ") for line in _CALLER.splitlines()]
    wanted = {number: code for number, (_, mark, code) in enumerate(lines, 1) if mark}
    assert {int(number): code for number, code in errors} == wanted, answer
