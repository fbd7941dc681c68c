from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.embedded.processes import (
    TOKEN_VARIABLE,
    Process,
    kill_launch,
    of_launch,
    read_record,
    write_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREVER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"


@pytest.fixture
def spawn() -> Iterator[object]:
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = FOREVER, **environment: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **environment}
        )
        started.append(child)
        assert child.stdout
        assert child.stdout.readline() == b"up\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


def test_a_process_is_alive_until_it_ends(spawn):
    child = spawn()
    process = Process.of(child.pid, "child")
    assert process.alive()
    child.kill()
    child.wait()
    assert not process.alive()


def test_a_zombie_has_ended(spawn):
    child = spawn()
    process = Process.of(child.pid, "child")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive()


def test_a_pid_with_another_start_time_is_somebody_else_and_gets_no_signal(spawn):
    child = spawn()
    stranger = replace(Process.of(child.pid, "child"), started="another boot+1")
    assert not stranger.alive()
    stranger.stop(seconds=0)
    assert child.poll() is None


def test_an_ended_process_cannot_be_described(spawn):
    child = spawn()
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        Process.of(child.pid, "child")


def test_who_ignores_the_request_to_stop_is_killed(spawn):
    child = spawn(STUBBORN)
    process = Process.of(child.pid, "child")
    process.stop(ask=signal.SIGTERM, seconds=0)
    assert not process.alive()


def test_a_launch_is_found_by_its_token_and_by_that_of_the_launch_around_it(spawn):
    inner = spawn(**{TOKEN_VARIABLE: "unit-a1/b2"})
    other = spawn(**{TOKEN_VARIABLE: "unit-a12"})
    assert [process.pid for process in of_launch("unit-a1")] == [inner.pid]
    assert [process.pid for process in of_launch("unit-a1/b2")] == [inner.pid]
    kill_launch("unit-a1")
    assert not of_launch("unit-a1")
    assert other.poll() is None


def test_a_record_comes_back_as_written(tmp_path: Path):
    me = Process.of(os.getpid(), "me")
    write_record(tmp_path / "run" / "me.json", [me], token="t")
    assert read_record(tmp_path / "run" / "me.json") == ([me], {"token": "t"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": [{"pid": 1}]}', '{"other": 1}'])
def test_a_torn_record_names_nobody(tmp_path: Path, text: str):
    path = tmp_path / "torn.json"
    path.write_text(text)
    assert read_record(path) == ([], {})


def test_an_absent_record_names_nobody(tmp_path: Path):
    assert read_record(tmp_path / "absent.json") == ([], {})
