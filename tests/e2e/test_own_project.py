"""A project of somebody who uses LedgerQ: its tests by the test kit, its beginning by `ledgerq init`, and our wheels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).parents[2]

TASKS = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask


@shared_task(bind=True, base=DatabaseAwareTask)
def resize(self, width: int, height: int = 10):
    self.update_progress(0, "reading")
    self.log("resizing", width=width)
    self.update_progress(50, "half")
    self.update_progress(100, "written")
    return {"size": (width, height)}


@shared_task(bind=True, base=DatabaseAwareTask)
def broken(self):
    raise ValueError("no such picture")


@shared_task(bind=True, base=DatabaseAwareTask, max_retries=2)
def fetch(self, failures: int):
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("away"), countdown=3600)
    return self.request.retries


@shared_task(bind=True, base=DatabaseAwareTask, max_retries=None)
def endless(self):
    raise self.retry(countdown=60)


@shared_task(bind=True, base=DatabaseAwareTask)
def sends_another(self):
    return resize.delay(7).id


def read():
    return 1


@shared_task
def reads():
    return read()
"""

TESTS = """
import pytest
from celery import chord

import pictures
from ledgerq_testing import DuplicateTask, InvalidParameters, InvalidRequest, Progress, UnknownTaskType


def test_result_progress_log_and_history(ledgerq):
    outcome = ledgerq.submit("pictures.resize", width=3)
    assert (outcome.status, outcome.attempts, outcome.error) == ("SUCCESS", 1, None)
    assert outcome.result == {"size": [3, 10]}
    assert outcome.reports == [(0, "reading"), (50, "half"), (100, "written")]
    assert outcome.progress == Progress(100, "written")
    assert outcome.logs == [{"message": "resizing", "width": 3}]
    assert outcome.history == ["submitted", "dispatched", "started", "log", "progress", "succeeded"]


def test_a_failure(ledgerq):
    outcome = ledgerq.submit(pictures.broken)
    assert (outcome.status, outcome.result) == ("FAILURE", None)
    assert (outcome.error["type"], outcome.error["message"]) == ("ValueError", "no such picture")
    assert outcome.history[-1] == "failed"


@pytest.mark.parametrize(("failures", "status", "attempts"), [(0, "SUCCESS", 1), (2, "SUCCESS", 3), (3, "FAILURE", 3)])
def test_retries_without_their_delay(ledgerq, failures, status, attempts):
    outcome = ledgerq.submit("pictures.fetch", failures=failures)
    assert (outcome.status, outcome.attempts) == (status, attempts)
    assert outcome.history.count("retried") == attempts - 1


def test_fewer_retries_by_the_submit(ledgerq):
    assert ledgerq.submit_with("pictures.fetch", {"failures": 2}, max_retries=1).status == "FAILURE"


@pytest.mark.parametrize("parameters", [{"width": "three"}, {}, {"width": 3, "wdith": 4}])
def test_bad_parameters_are_refused(ledgerq, parameters):
    with pytest.raises(InvalidParameters):
        ledgerq.submit("pictures.resize", **parameters)


def test_what_json_cannot_hold_is_refused(ledgerq):
    with pytest.raises(TypeError):
        ledgerq.submit("pictures.resize", width=object())


def test_a_wrong_name_and_a_wrong_field(ledgerq):
    with pytest.raises(UnknownTaskType, match="pictures.resize"):
        ledgerq.submit("pictures.resise", width=3)
    with pytest.raises(InvalidRequest, match="colour"):
        ledgerq.submit_with("pictures.resize", {"width": 3}, colour="red")


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_a_ledger_without_tasks(ledgerq, time):
    ledgerq.submit_with("pictures.resize", {"width": 3}, unique_key="one", unique_policy="reject", unique_ttl=60)
    with pytest.raises(DuplicateTask):
        ledgerq.submit_with("pictures.resize", {"width": 3}, unique_key="one", unique_policy="reject")


def test_tasks_that_a_task_or_a_test_sends(ledgerq):
    outcome = ledgerq.submit(pictures.sends_another)
    assert ledgerq.outcome(outcome.result).result == {"size": [7, 10]}
    sent = chord([pictures.resize.s(1), pictures.resize.s(2)])(pictures.fetch.si(0))
    ledgerq.run_all()
    assert ledgerq.outcome(sent.id).status == "SUCCESS"
    assert sent.get(timeout=10) == 0


def test_a_later_time_and_another_queue(ledgerq):
    outcome = ledgerq.submit_with("pictures.resize", {"width": 1}, countdown=3600, queue="slow", tags=["a"])
    assert (outcome.status, outcome.queue) == ("SUCCESS", "slow")


def test_a_task_that_never_ends_is_an_error(ledgerq):
    with pytest.raises(AssertionError, match="max_retries"):
        ledgerq.submit("pictures.endless")


def test_what_the_test_itself_raises_reaches_it(ledgerq, monkeypatch):
    monkeypatch.setattr(pictures, "read", lambda: pytest.fail("not to be called"))
    with pytest.raises(pytest.fail.Exception):
        ledgerq.submit("pictures.reads")
    monkeypatch.setattr(pictures, "read", lambda: exit(3))
    assert ledgerq.submit("pictures.reads").error["type"] == "SystemExit"


def test_that_is_wrong(ledgerq):
    assert ledgerq.submit("pictures.broken").status == "SUCCESS"
"""


@pytest.fixture
def project(workspace: Path) -> Path:
    """A folder as the guide describes it."""
    (workspace / "pictures.py").write_text(TASKS)
    (workspace / "test_pictures.py").write_text(TESTS)
    (workspace / ".env").write_text("LEDGERQ_TASK_MODULES=pictures\n")
    (workspace / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n")
    return workspace


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the project, as its owner would."""
    ours = ("PYTEST_", "LEDGERQ_", "DATABASE_", "REDIS_", "CELERY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run_tests(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the project's tests."""
    return run(folder, "pytest", "-q", "-p", "no:cacheprovider", **variables)


def test_the_test_kit_runs_tasks_as_ledgerq_does_and_records_them(project):
    done = run_tests(project, COLUMNS="200")
    assert "1 failed, 17 passed" in done.stdout, done.stdout + done.stderr
    assert "test_that_is_wrong - AssertionError: assert 'FAILURE' == 'SUCCESS'" in done.stdout


def test_the_test_kit_runs_an_existing_application_and_never_reaches_its_own_stores(project):
    (project / "shop.py").write_text(
        "import time\n"
        "from celery import Celery\n"
        "app = Celery('shop', broker='redis://127.0.0.1:1/0', backend='redis://127.0.0.1:1/0')\n"
        "@app.task\n"
        "def add(a, b=2):\n"
        "    return a + b\n"
        "@app.task(bind=True)\n"
        "def other(self):\n"
        "    raise self.replace(add.s(20))\n"
        "@app.task(soft_time_limit=0.1)\n"
        "def slow():\n"
        "    for _ in range(200):\n"
        "        time.sleep(0.05)\n"
    )
    (project / "test_pictures.py").write_text(
        "import shop\n"
        "def test_shop(ledgerq):\n"
        "    assert ledgerq.submit(shop.add, a=1).result == 3\n"
        "    assert ledgerq.submit('shop.other').result == 22\n"
        "    assert ledgerq.submit('shop.slow').error['type'] == 'SoftTimeLimitExceeded'\n"
        "    sent = shop.add.delay(5, b=6)\n"
        "    ledgerq.run_all()\n"
        "    assert sent.get(timeout=10) == ledgerq.outcome(sent.id).result == 11\n"
    )
    (project / ".env").write_text(
        "LEDGERQ_CELERY_APP=shop:app\nDATABASE_URL=postgresql://127.0.0.1:1/x\nREDIS_URL=redis://127.0.0.1:1/0\n"
    )
    done = run_tests(project)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_servers_of_a_session_end_with_it_and_those_of_a_killed_one_with_the_next(project):
    temporary = project / "tmp"
    temporary.mkdir(mode=0o755)
    (project / "test_pictures.py").write_text(
        "import os, pathlib\n"
        "def test_where(ledgerq, ledgerq_servers):\n"
        "    with pathlib.Path('urls').open('a') as urls:\n"
        "        urls.write(ledgerq_servers.database_url + '\\n')\n"
        "    if 'DIES' in os.environ:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    killed = run_tests(project, TMPDIR=str(temporary), DIES="yes")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    [url] = (project / "urls").read_text().split()
    psycopg2.connect(url).close()
    done = run_tests(project, TMPDIR=str(temporary))
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    for url in (project / "urls").read_text().split():
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)
    assert list(temporary.iterdir()) == []


def test_init_writes_a_project_whose_tests_pass_and_whose_tasks_are_registered(workspace, database, redis_database):
    project = workspace / "words"
    made = run(workspace, "ledgerq_api.cli", "init", "words")
    assert made.returncode == 0, made.stderr
    assert f"{sys.executable} {ROOT}/main.py" in made.stdout
    done = run_tests(project)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    settings = {name: value for name, value in dotenv_values(project / ".env").items() if value}
    registered = run(
        project, "ledgerq_worker", "register", "--json", **settings, DATABASE_URL=database, REDIS_URL=redis_database
    )
    assert "my_tasks.count_words" in json.loads(registered.stdout)["task_types"], registered.stderr
    assert settings["LEDGERQ_STACK_TASKS_FOLDER"] == str(project.resolve())
    [stack] = yaml.safe_load((project / "compose.yaml").read_text())["include"]
    assert Path(stack).is_file()


def test_init_overwrites_nothing(workspace):
    (workspace / "tests").mkdir()
    (workspace / "tests/test_my_tasks.py").write_text("mine")
    refused = run(workspace, "ledgerq_api.cli", "init")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "ledgerq: tests/test_my_tasks.py exists already: choose another folder, or move it away"
    )
    assert [path.relative_to(workspace) for path in workspace.rglob("*.*")] == [Path("tests/test_my_tasks.py")]
    assert (workspace / "tests/test_my_tasks.py").read_text() == "mine"


def test_init_says_in_one_line_why_it_cannot_write(workspace):
    (workspace / "file").write_text("")
    failed = run(workspace, "ledgerq_api.cli", "init", "file/project")
    assert failed.returncode == 1
    assert failed.stderr.startswith("ledgerq: file")
    assert failed.stderr.count("\n") == 1


def test_the_wheels_have_everything_that_a_project_needs(workspace):
    make = [str(shutil.which("make")), "-o", ".venv/.runtime-installed", "wheels", f"WHEELS={workspace}/dist"]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True)
    wheels = sorted((workspace / "dist").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == [
        "ledgerq_api", "ledgerq_monitor", "ledgerq_shared", "ledgerq_worker",
    ]  # fmt: skip
    installed = workspace / "installed"
    put = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", str(installed))
    done = run(workspace, "pip", "install", *put, *map(str, wheels))
    assert done.returncode == 0, done.stderr
    made = run(workspace, "ledgerq_api.cli", "init", "words", PYTHONPATH=str(installed))
    assert "ledgerq-migrate upgrade" in made.stdout, made.stdout + made.stderr
    project = workspace / "words"
    (project / "tests/test_place.py").write_text(
        "import ledgerq_worker, ledgerq_testing\n"
        "def test_it_is_the_installed_one(ledgerq):\n"
        f"    assert ledgerq_worker.__file__.startswith({str(installed)!r})\n"
        f"    assert ledgerq_testing.__file__.startswith({str(installed)!r})\n"
    )
    done = run_tests(project, PYTHONPATH=str(installed))
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert not (project / "compose.yaml").exists()
