"""What the commands write for people follows LEDGERQ_LOCALE; what they write for machines does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support import databases
from tests.support.launcher import MAIN
from tests.support.ports import free_port

CHINESE = re.compile(r"[\u4e00-\u9fff]")
CLI = ("-m", "ledgerq_api.cli")
WORKER = ("-m", "ledgerq_worker")
MIGRATE = ("-m", "ledgerq_shared.migrate")
AWAY = {"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture
def command(bare_stack):
    def run(*arguments, locale="zh", **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGERQ_")}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**environment, "LEDGERQ_LOCALE": locale, **variables},
            cwd=bare_stack.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*CLI, "keys", "bogus"), "没有命令 'bogus'（见 ledgerq keys --help）"),
        ((*CLI, "keys", "create", "--scope", "all"), "--scope：'all' 不是 "),
        ((*CLI, "keys", "revoke", "one", "two"), "多余的参数：two"),
        ((*WORKER, "run", "--concurrency", "x"), "--concurrency：应为整数"),
        ((*MIGRATE, "upgrade"), "未设置 DATABASE_URL"),
        ((MAIN, "--api-port", "http"), "'http' 不是 1 到 65535 之间的端口（见 python main.py --help）"),
    ],
)
def test_a_wrong_command_line_is_one_line_in_chinese(command, arguments, words):
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert words in line
    assert line.startswith("ledgerq")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*CLI, "keys", "list"), 1),
        ((*WORKER, "register"), 2),
        (("-m", "ledgerq_api"), 1),
        ((MAIN,), 1),
    ],
)
def test_a_postgresql_that_is_away_is_one_line_in_chinese(command, arguments, code):
    done = command(*arguments, LEDGERQ_API_PORT=str(free_port()), LEDGERQ_LOG_LEVEL="error", **AWAY)
    line = done.stderr.splitlines()[-1]
    assert (done.returncode, "secret" in done.stderr) == (code, False)
    assert CHINESE.search(line)
    assert "127.0.0.1" in line


@pytest.mark.parametrize(
    "arguments", [(*CLI, "keys", "create", "--help"), (*WORKER, "run", "--help"), (MAIN, "--help")]
)
def test_help_is_in_chinese(command, arguments):
    text = command(*arguments, locale="zh_CN.UTF-8").stdout
    assert "用法：" in text
    assert "显示此帮助并退出" in text
    assert not re.search(r"(?:[a-z]{3,} ){4}", text)


def test_env_of_the_folder_names_the_language_too(command, bare_stack):
    (bare_stack.folder / ".env").write_text("LEDGERQ_LOCALE=zh\n")
    environment = dict.fromkeys(("LEDGERQ_LOCALE",), "")
    assert "没有选项" in command(*CLI, "keys", "list", "--bogus", locale="", **environment).stderr


def test_machines_read_the_same_in_every_language(command, database):
    stores = {"DATABASE_URL": database, "REDIS_URL": "redis://127.0.0.1:1/0"}
    create = (*CLI, "keys", "create", "--name", "a", "--scope", "tasks:read")
    made = [json.loads(command(*create, "--json", locale=locale, **stores).stdout) for locale in ("zh", "en")]
    assert len({tuple(one) for one in made}) == 1
    assert {one["state"] for one in made} == {"usable"}
    assert "不会再次显示" in command(*create, **stores).stderr
    assert "权限范围" in command(*CLI, "keys", "list", **stores).stdout
    [(count,)] = databases.rows(database, "SELECT count(*) FROM api_key")
    assert count == 3
