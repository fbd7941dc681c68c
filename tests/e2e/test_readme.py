"""The README and the guide to the API, followed: their commands are taken from the text and run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ledgerq_shared.embedded.ports import is_free
from ledgerq_shared.embedded.processes import of_launch
from tests.support import http, wait
from tests.support.launcher import MAIN, launch
from tests.support.ports import free_port
from tests.support.stack import Running, clean_environment

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("SUCCESS", "FAILURE", "REVOKED")
SERVER = "http://127.0.0.1:8000"
READY = "Stop with Ctrl-C"


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a document."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def block_with(text: str, language: str = "sh", name: str = "README.md") -> str:
    """The one block that contains ``text``."""
    [found] = [block for block in blocks(name, language) if text in block]
    return found


def shell(script: str, running: Running, **variables: str) -> str:
    """Run a block as it stands, but for the port; return what it printed."""
    done = subprocess.run(
        [_program("bash"), "-euc", script.replace(SERVER, running.url)],
        env=clean_environment() | variables, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def when_final(ask: str, running: Running, **variables: str) -> dict[str, Any]:
    """Repeat a block that asks for a status until the task has ended."""

    def status() -> dict[str, Any] | None:
        answer: dict[str, Any] = json.loads(shell(ask, running, **variables))
        return answer if answer["status"] in FINAL else None

    found = wait.until(status, 60, what=running.log)
    assert found
    return found


def test_requirements_txt_is_what_is_installed_here():
    assert "pip install -r requirements.txt" in "".join(blocks("README.md", "sh"))
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for line in pinned:
        if line and not line.startswith(("#", "-e")):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                assert importlib.metadata.version(requirement.name) in requirement.specifier, line
    for line in pinned:
        if line.startswith("-e"):
            assert (ROOT / line.removeprefix("-e ").partition("[")[0] / "pyproject.toml").exists(), line


def test_make_run_and_what_the_readme_does_with_it(bare_stack):
    assert blocks("README.md", "sh")[0] == "make run\n"
    # In an environment of its own: `make test ARGS=…` would hand its ARGS down.
    recipe = subprocess.run(
        [_program("make"), "--dry-run", "run"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    program, *flags = shlex.split(recipe.stdout.splitlines()[-1].removeprefix("exec "))[1:]
    assert (ROOT / program) == MAIN
    running = launch(bare_stack, *flags, standins=False)
    running.says(READY, timeout=90)

    printed = shell(block_with("ANSWER="), running)
    answer = json.loads(printed)
    assert set(answer) == set(json.loads(blocks("README.md", "json")[0]))
    assert (answer["status"], answer["message"]) == ("PENDING", "任务已成功提交")
    done = when_final(block_with('"$ANSWER" | cut'), running, ANSWER=printed.strip())
    assert (done["task_id"], done["status"]) == (answer["task_id"], "SUCCESS")
    assert done["result"]["pages_processed"] == 15
    assert http.answers(f"{running.url}/docs")
    assert block_with("test_task_api.py") == "python test_task_api.py\n"
    smoke = subprocess.run(
        [sys.executable, str(ROOT / "test_task_api.py"), "--base-url", running.url, "--timeout", "300"],
        env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    wrong = [line for line in smoke.stdout.splitlines() if "DIFFERENT" in line]
    assert smoke.returncode == 0, wrong or smoke.stderr
    assert running.stop() == 0
    assert of_launch(running.token) == []


def test_the_four_urls_in_an_env_file_and_a_task_of_ones_own(bare_stack, empty_database, redis_database):
    stores = {"postgresql": empty_database, "redis": redis_database}
    lines = blocks("README.md", "ini")[0].splitlines()
    environment = [
        f"{name}={stores[url.partition(':')[0]]}" for name, _, url in (line.partition("=") for line in lines)
    ]
    assert len(environment) == 4
    environment.append("LEDGERQ_TASK_MODULES=my_tasks")
    assert f"`{environment[-1]}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    (bare_stack.folder / ".env").write_text("\n".join(environment) + "\n", encoding="utf-8")
    [example] = blocks("README.md", "python")
    (bare_stack.folder / "my_tasks.py").write_text(example, encoding="utf-8")  # as pasted

    assert block_with("main.py").splitlines()[-1] == "python main.py"
    running = launch(bare_stack, standins=False)
    assert "as configured" in running.says(READY, timeout=90)
    answer = json.loads(shell(block_with("my_custom_task"), running))
    done = when_final(f"curl -s {SERVER}/tasks/{answer['task_id']}/status", running)
    assert (done["status"], done["result"]) == ("SUCCESS", {"status": "success", "data": [1, 2]})
    assert done["progress"]["status"] == "任务完成"
    assert running.stop() == 0


def test_the_guide_to_the_api_works_as_written(bare_stack):
    guide = "docs/guides/api.md"
    running = launch(bare_stack, standins=False)
    running.says(READY, timeout=90)
    for block in blocks(guide, "sh"):
        for printed in shell(block, running).replace("}{", "}\n{").splitlines():
            assert '"code":' not in printed, f"{block}\n{printed}"
    [shown] = [json.loads(block) for block in blocks(guide, "json")]
    body = {"task_type": "clients.celery.example_tasks.process_document", "task_parameters": {}}
    answer = http.request("POST", f"{running.url}/tasks/submit", body)
    assert (answer.status, answer.json()) == (422, shown)
    assert running.stop() == 0


def test_the_guide_to_observing_shows_the_task_at_every_port(bare_stack):
    guide = "docs/guides/observe.md"
    monitor, metrics = free_port(), wait.until(_two_free_ports, 30)
    running = launch(
        bare_stack, "--run-monitor", standins=False,
        LEDGERQ_MONITOR_PORT=str(monitor), LEDGERQ_METRICS_PORT=str(metrics),
    )  # fmt: skip
    running.says(READY, timeout=90)
    submit, *looks = block_with("ANSWER=", name=guide).splitlines()
    printed = shell(f"{submit}; echo $ANSWER", running).strip()
    assert len(looks) == 5
    for look in looks:
        for written, port in (("8001", monitor), ("8002", metrics), ("8003", metrics + 1)):
            look = look.replace(f":{written}/", f":{port}/")  # noqa: PLW2901 - the line with this run's ports
        # Nothing to be found is said by grep, too, until a figure is there.
        wait.until(lambda look=look: shell(f"{look} || true", running, ANSWER=printed), 60, what=look)
    assert running.stop() == 0


def test_the_command_for_an_existing_application_works(bare_stack, empty_database, redis_database):
    (bare_stack.folder / "proj").mkdir()
    (bare_stack.folder / "proj" / "__init__.py").touch()
    (bare_stack.folder / "proj" / "celery.py").write_text(
        "from celery import Celery\n"
        "app = Celery('proj')\n"
        "@app.task(name='proj.double')\n"
        "def double(number: int) -> int:\n    return number * 2\n"
    )
    command = shlex.split(blocks("docs/guides/existing-celery-app.md", "sh")[0])
    variables = dict(word.split("=", 1) for word in command[:-2])
    assert command[-2:] == ["python", "main.py"]
    running = launch(bare_stack, standins=False, DATABASE_URL=empty_database, REDIS_URL=redis_database, **variables)
    running.says(READY, timeout=90)
    answer = http.request(
        "POST", f"{running.url}/tasks/submit", {"task_type": "proj.double", "task_parameters": {"number": 21}}
    ).json()
    assert when_final(f"curl -s {SERVER}/tasks/{answer['task_id']}/status", running)["result"] == 42
    assert running.stop() == 0


def _two_free_ports() -> int | None:
    """The first of two neighbours."""
    port = free_port()
    return port if is_free(port + 1) else None


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not on PATH"
    return found
