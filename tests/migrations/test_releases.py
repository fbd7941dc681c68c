"""A rolling update: code from before the last migration on the new tables, and new code on the tables from before it.

The older code is that of this repository's history, run by this environment's Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared import migrate
from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.chaos.support.plant import Plant
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Running, Stack

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("shared/src", "services/api/src", "services/worker/src")
#: The first migration of those that came together: between them the code was not whole (its statuses were 500).
_FIRST_NEW = "0013"
_TASK = {"task_type": "chaos_tasks.slow", "task_parameters": {"seconds": 0.02}}


def _git(*arguments: str) -> bytes:
    git = shutil.which("git") or pytest.skip("no git here")
    done = subprocess.run([git, "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"the code from before the last migration is not at hand: {done.stderr.decode().strip()}")
    return done.stdout.strip()


@pytest.fixture
def before(workspace: Path) -> dict[str, str]:
    """The environment that runs the code from before the last migration."""
    if _git("rev-parse", "--is-shallow-repository") == b"true":
        pytest.skip("the history is not here (a shallow clone), so neither is the code from before the last migration")
    [last] = Path(migrate.__file__).parent.glob(f"migrations/versions/{_FIRST_NEW}_*.py")
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(last.relative_to(ROOT))).decode()
    if not added:
        pytest.skip("the last migration is not committed yet")
    folder = workspace / "before"
    with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", f"{added}^", *_SOURCES))) as archive:
        archive.extractall(folder, filter="data")
    environment = {"PYTHONPATH": os.pathsep.join(str(folder / source) for source in _SOURCES)}
    shown = (
        "import ledgerq_shared as a, ledgerq_api as b, ledgerq_worker as c; print(a.__file__, b.__file__, c.__file__)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", shown], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(path.startswith(str(folder)) for path in printed), printed
    return environment


@pytest.fixture
def plant(stack: Stack, database: str, redis_database: str) -> Iterator[Plant]:
    """On this release's tables."""
    made = Plant(stack, database, redis_database, lease=2.0)
    yield made
    made.close()


@pytest.fixture
def plant_before(stack: Stack, before: dict[str, str], empty_database: str, redis_database: str) -> Iterator[Plant]:
    """On the tables that the code from before the last migration has made."""
    stack.environment["DATABASE_URL"] = empty_database
    stack.run("-m", "ledgerq_shared.migrate", "upgrade", **before)
    made = Plant(stack, empty_database, redis_database, lease=2.0)
    yield made
    made.close()
    stack.close()


def _submit(api: Running, count: int) -> list[str]:
    answer = http.request("POST", f"{api.url}/tasks/submit/batch", {"tasks": [_TASK] * count})
    assert answer.status == 202, answer.body
    return [str(entry["task_id"]) for entry in answer.json()["tasks"]]


def test_code_from_before_the_last_migration_works_on_the_new_tables_beside_new_code(
    plant: Plant, before: dict[str, str]
):
    assert "ledger is at revision" in plant.stack.run("-m", "ledgerq_shared.migrate", "check", **before)
    plant.stack.register(**before)
    plant.stack.register()
    old, new = plant.stack.api(**before), plant.stack.api()
    plant.maintenance(**before)
    workers = [plant.worker(slots=2, **before), plant.worker(slots=2)]
    accepted = _submit(old, 60) + _submit(new, 60)
    lost = [plant.submit("gated_once", gate=f"never-{number}") for number in range(4)]
    due = plant.submit_all("quick", [{"number": number} for number in range(20)], NewTaskOptions(countdown=1.0))
    for task_id in lost:
        plant.recorded(task_id, "STARTED")
    for worker in workers:  # the older node's tasks are taken back, and so are the newer one's
        nodes.kill(*nodes.all_of(worker))
    plant.worker(slots=2, **before)
    plant.worker(slots=2)
    wait.until(lambda: plant.row(accepted[0]).state == "SUCCESS", 60)
    asking = [plant.submit("asks", gate="never") for _ in range(2)]
    for api, task_id in zip((old, new), asking, strict=True):
        plant.recorded(task_id, "STARTED")
        assert http.request("POST", f"{api.url}/tasks/{task_id}/cancel").status == 202
        assert plant.ended(task_id).state == "REVOKED"
    plant.all_ended()
    assert {plant.row(task_id).attempt for task_id in lost} == {2}
    for api in (old, new):
        for task_id in (accepted[0], accepted[-1], lost[0], due[0]):
            assert http.request("GET", f"{api.url}/tasks/{task_id}/status").json()["status"] == "SUCCESS"
        listed = http.request("GET", f"{api.url}/tasks/?status=SUCCESS").json()
        assert listed["total_count"] == len(accepted) + len(lost) + len(due)
    plant.assert_sound([*plant.accepted, *accepted])


def test_new_code_waits_for_the_new_tables_and_goes_on_with_what_the_older_code_has_accepted(
    plant_before: Plant, before: dict[str, str]
):
    plant = plant_before
    plant.stack.register(**before)
    old = plant.stack.api(**before)
    accepted = _submit(old, 20)
    for arguments in (("ledgerq_api",), *(("ledgerq_worker", what) for what in ("run", "maintenance", "register"))):
        refused = plant.stack.start("refused", "-m", *arguments)
        assert refused.wait() == 2, arguments
        assert "the ledger's tables are older than this release" in refused.log()
        assert "ledgerq-migrate wait" in refused.log()
        assert "Traceback" not in refused.log()
    waiting = plant.stack.start("wait", "-m", "ledgerq_shared.migrate", "wait")
    plant.worker(slots=2, **before)
    plant.maintenance(**before)
    wait.until(lambda: databases.rows(plant.database_url, "SELECT 1 FROM task WHERE state = 'SUCCESS'"), 60)
    assert waiting.alive()
    plant.stack.run("-m", "ledgerq_shared.migrate", "upgrade")
    assert waiting.wait() == 0
    plant.worker(slots=2)
    accepted += _submit(old, 20)
    new = plant.stack.api()
    accepted += _submit(new, 20)
    plant.all_ended()
    plant.assert_sound(accepted)
