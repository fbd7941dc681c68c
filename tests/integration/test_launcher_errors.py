from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from launcher.main import run
from tests.support.launcher import MAIN, fails, launch
from tests.support.ports import free_port
from tests.support.stack import clean_environment


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs the launcher in this process, for what it refuses before it starts anything; returns the one line."""

    def run_refused(*flags, **environment):
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name not in clean_environment()]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("launcher.main._launch", lambda *_: pytest.fail("it was started"))
        with pytest.raises(SystemExit) as ended:
            sys.exit(run(list(flags)))
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err

    return run_refused


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bogus"], "--bogus"),
        (["--no-api", "--no-worker"], "nothing to run"),
        (["--no-api", "--no-worker", "--run-monitor"], "nothing to run"),
        (["--api-port", "http"], "'http' is not a port"),
        (["--api-port", "70000"], "'70000' is not a port"),
        (["--worker-concurrency", "0"], "'0' is not a whole number"),
        (["--worker-loglevel", "loud"], "'loud' is not one of"),
        (["--api"], "--api"),
        (["extra"], "extra"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(refused, flags, words):
    assert words in refused(*flags)


def test_a_wrong_flag_ends_the_program_too(bare_stack):
    assert "--bogus" in fails(bare_stack, "--bogus", code=2)


def test_help_lists_every_flag_of_the_users(bare_stack):
    text = bare_stack.run(str(MAIN), "--help")
    for flag in (
        "--run-api", "--no-api", "--run-worker", "--no-worker", "--api-port", "--api-reload", "--worker-reload",
        "--worker-concurrency", "--worker-loglevel", "--debug", "--help",
    ):  # fmt: skip
        assert flag in text


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("DATABASE_URL", "postgresql://u:secret@127.0.0.1/x", "REDIS_URL is not"),
        ("REDIS_URL", "redis://127.0.0.1/0", "DATABASE_URL is not"),
        ("CELERY_BROKER_URL", "redis://127.0.0.1/0", "CELERY_BROKER_URL is set but DATABASE_URL is not"),
    ],
)
def test_half_a_configuration_is_refused_either_way(refused, name, url, words):
    assert words in refused(**{name: url})


def test_an_unreachable_postgresql_is_one_line_without_its_password(bare_stack):
    url = f"postgresql://u:secret@127.0.0.1:{free_port()}/x"
    line = fails(bare_stack, code=1, DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:1/0")
    assert "PostgreSQL (DATABASE_URL)" in line
    assert "refused" in line
    assert "secret" not in line


def test_an_unreachable_redis_is_one_line(bare_stack, postgres_url):
    line = fails(bare_stack, code=1, DATABASE_URL=postgres_url, REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}")
    assert "Redis (REDIS_URL)" in line
    assert "secret" not in line


def test_wrong_passwords_are_one_line_without_the_password(bare_stack, postgres_url, redis_url):
    wrong = postgres_url.replace(urlsplit(postgres_url).password, "wr%20ong")
    line = fails(bare_stack, code=1, DATABASE_URL=wrong, REDIS_URL=redis_url)
    assert "password authentication failed" in line
    assert "wr" not in line.split("PostgreSQL")[1].replace("ledgerq", "")
    wrong = redis_url.replace(urlsplit(redis_url).password, "wrong-one")
    line = fails(bare_stack, code=1, DATABASE_URL=postgres_url, REDIS_URL=wrong)
    assert "Redis (REDIS_URL)" in line
    assert "wrong-one" not in line


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@127.0.0.1/x",
        "nonsense",
        "postgresql://u:secret@127.0.0.1:abc/x",
        "postgresql://u:se@cret@127.0.0.1/x",
        "postgresql://u:se#cret@127.0.0.1/x",
        "postgresql://u:se/cret@127.0.0.1/x",
        "postgresql://u:se?cret@127.0.0.1/x",
        "postgresql://u:secret@127.0.0.1/x?bogus=1",
    ],
)
def test_a_url_that_cannot_be_one_is_one_line_without_its_password(bare_stack, url):
    running = bare_stack.start("launcher", str(MAIN), DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:1/0")
    assert running.wait() in (1, 2)
    assert len(running.log().splitlines()) == 1
    assert "DATABASE_URL" in running.log()
    assert "cret" not in running.log()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:abc/0", "redis://127.0.0.1:1/zero"])
def test_a_redis_url_that_cannot_be_one_is_one_line(bare_stack, postgres_url, url):
    running = bare_stack.start("launcher", str(MAIN), DATABASE_URL=postgres_url, REDIS_URL=url)
    assert running.wait() in (1, 2)
    assert len(running.log().splitlines()) == 1
    assert "REDIS" in running.log()


def test_a_port_in_use_is_one_line_that_names_the_flag(bare_stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "--api-port" in fails(bare_stack, "--api-port", port, code=1)


def test_all_ports_in_use_are_named_in_one_round(bare_stack):
    with socket.socket() as one, socket.socket() as other:
        for taken in (one, other):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        api, flower = (str(taken.getsockname()[1]) for taken in (one, other))
        line = fails(
            bare_stack, "--api-port", api, "--run-monitor",
            code=1, LEDGERQ_MONITOR_PORT=str(free_port()), LEDGERQ_FLOWER_PORT=flower, LEDGERQ_METRICS_PORT="0",
        )  # fmt: skip
    assert f"{api} (--api-port)" in line
    assert f"{flower} (LEDGERQ_FLOWER_PORT)" in line
    assert "LEDGERQ_MONITOR_PORT" not in line


def test_an_env_file_with_a_bad_value_is_one_line(bare_stack):
    (bare_stack.folder / ".env").write_text("LEDGERQ_API_PORT=many\n")
    assert "LEDGERQ_API_PORT" in fails(bare_stack, code=2)


@pytest.mark.parametrize("version", ["2.7", "3.8", "3.10"])
def test_an_older_python_gets_one_line(version):
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} here")
    outcome = subprocess.run([found[0], MAIN, "--help"], capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
    assert outcome.stderr == f"LedgerQ needs Python 3.11 or newer; this is Python {version}.\n"
    assert outcome.stdout == ""


def test_a_failing_registration_stops_the_start(bare_stack, database, redis_database):
    stores = {"DATABASE_URL": database, "REDIS_URL": redis_database}
    running = bare_stack.start(
        "launcher", str(MAIN), "--api-port", str(free_port()),
        PYTHONPATH=str(MAIN.parent / "tests/support/standins"), STANDIN_REGISTER="fail", **stores,
    )  # fmt: skip
    assert running.wait() == 1
    assert "the registration of task types failed" in running.log()
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("folder", ["/proc/ledgerq", "file", "file/below"])
def test_a_data_folder_that_cannot_be_written_is_one_line(bare_stack, folder):
    (bare_stack.folder / "file").touch()
    line = fails(bare_stack, "--api-port", str(free_port()), code=2, LEDGERQ_DATA_DIR=folder)
    assert "LEDGERQ_DATA_DIR" in line


def test_a_disk_without_room_for_the_data_folder_is_one_line(bare_stack, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what a write says: it names no file

    monkeypatch.chdir(bare_stack.folder)
    monkeypatch.setattr("launcher.main._launch", full)
    assert run([]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ledgerq: ")
    assert line.count("\n") == 1
    assert str(bare_stack.folder / ".ledgerq") in line
    assert "No space left on device" in line
    assert "LEDGERQ_DATA_DIR" in line


def test_files_in_the_folder_hide_no_module_that_the_processes_need(bare_stack):
    for name in ("celery", "email", "calendar", "redis", "launcher"):
        (bare_stack.folder / f"{name}.py").write_text(f"raise SystemExit('the wrong file: {name}')\n")
    running = launch(bare_stack, "--worker-concurrency", "1", standins=False)
    text = running.says("Stop with Ctrl-C", timeout=90)
    assert "the wrong file" not in text
    assert running.stop() == 0


def test_main_py_is_not_confused_by_a_file_beside_it(tmp_path):
    for name in ("main.py", "launcher"):
        (tmp_path / name).symlink_to(MAIN.parent / name)
    shutil.copyfile(MAIN, (tmp_path / "real.py"))
    (tmp_path / "calendar.py").write_text("raise SystemExit('the wrong file')\n")
    outcome = subprocess.run(
        [sys.executable, tmp_path / "real.py", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize("name", ["calendar", "celery"])
def test_a_task_module_that_another_hides_is_one_line(bare_stack, database, redis_database, name):
    (bare_stack.folder / f"{name}.py").write_text("import celery\n")
    running = bare_stack.start(
        "launcher", str(MAIN), "--api-port", str(free_port()),
        DATABASE_URL=database, REDIS_URL=redis_database, LEDGERQ_TASK_MODULES=name,
    )  # fmt: skip
    assert running.wait(60) == 2
    assert "Traceback" not in running.log()
    line = running.log().splitlines()[0]
    assert f"{name}.py" in line
    assert "rename" in line
