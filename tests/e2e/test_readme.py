"""The README, followed: its commands are taken from the text and run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import http, wait
from tests.support.launcher import launch
from tests.support.stack import clean_environment

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("SUCCESS", "FAILURE", "REVOKED")


def commands(name: str) -> list[str]:
    """Every line of the fenced shell blocks."""
    text = (ROOT / name).read_text()
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_both_readmes_have_the_same_commands(name):
    assert commands(name)[:6] == commands("README.md")[:6]


def test_the_commands_of_the_readme_do_what_it_says(bare_stack):
    shell = commands("README.md")
    assert shell[0] == "make run"
    recipe = re.search(r"^run:.*\n\t@exec (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert "main.py --run-monitor" in recipe[1]
    running = launch(bare_stack, "--run-monitor", standins=False)
    running.says("Stop with Ctrl-C", timeout=90)

    submit = next(line for line in shell if "/tasks/submit" in line)
    answer = curl(submit.replace("http://127.0.0.1:8000", running.url))
    assert (answer["status"], answer["message"]) == ("PENDING", "任务已成功提交")
    ask = next(line for line in shell if line.endswith("/status"))
    ask = ask.replace("http://127.0.0.1:8000", running.url).replace("<task_id>", answer["task_id"])
    wait.until(lambda: curl(ask)["status"] in FINAL, 60, what=running.log)
    done = curl(ask)
    assert (done["status"], done["result"]["pages_processed"]) == ("SUCCESS", 15)

    assert "python test_task_api.py" in shell
    smoke = subprocess.run(
        [sys.executable, str(ROOT / "test_task_api.py"), "--base-url", running.url],
        env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    wrong = [line for line in smoke.stdout.splitlines() if "DIFFERENT" in line]
    assert smoke.returncode == 0, wrong or smoke.stderr
    assert "0 differences" in smoke.stdout
    assert http.answers(f"{running.url}/docs")
    assert running.stop() == 0


def curl(command: str) -> dict[str, object]:
    """Run a curl command and read its JSON."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer
