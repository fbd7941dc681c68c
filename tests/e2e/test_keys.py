"""The users' smoke script against a server that others can reach, with a key; no log ever has the key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ledgerq_api.auth.key_scopes import KeyScope
from tests.support import http, keys

SCRIPT = Path(__file__).resolve().parents[2] / "test_task_api.py"


def test_the_smoke_script_passes_with_a_key_from_the_environment_and_no_log_has_it(stack):
    stack.register()
    scopes = (KeyScope.READ, KeyScope.SUBMIT, KeyScope.CONTROL)
    key_id, key = keys.make(stack.environment["DATABASE_URL"], *scopes)
    api = stack.api(LEDGERQ_API_HOST="0.0.0.0", LEDGERQ_DEBUG="true")
    stack.worker()
    stack.maintenance()
    command = [sys.executable, str(SCRIPT), "--base-url", api.url]
    done = subprocess.run(command, env={"LEDGERQ_API_KEY": key}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 differences" in done.stdout
    assert http.request("GET", f"{api.url}/tasks/").status == 401
    assert http.request("PUT", f"{api.url}/queues/later", {"paused": True}, headers=keys.bearer(key)).status == 200
    everything = stack.logs()
    assert key not in everything
    assert f"key:{key_id}" in everything  # who has paused the queue


def test_the_smoke_script_without_the_right_key_says_one_sentence(stack):
    url = stack.environment["DATABASE_URL"]
    _, reader = keys.make(url, KeyScope.READ)
    api = stack.api()
    for words, environment in (
        ("needs an API key", {}),
        ("does not take this API key", {"LEDGERQ_API_KEY": "lq_unknown"}),
        ("does not take this API key", {"LEDGERQ_API_KEY": reader}),
    ):
        command = [sys.executable, str(SCRIPT), "--base-url", api.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout.splitlines() == [f"Trying {api.url}"]
        [line] = done.stderr.splitlines()
        assert words in line
        assert "ledgerq keys create" in line
        assert reader not in line
