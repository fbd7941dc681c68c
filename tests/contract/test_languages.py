"""Whatever these programs say to a person, they can say in Chinese, too."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from pydantic_settings import BaseSettings

import launcher.main  # noqa: F401 - its catalogue counts once it is imported
import ledgerq_api.app
import ledgerq_api.cli
import ledgerq_shared.migrate
import ledgerq_worker.main
from ledgerq_api.auth.administration import KeyTrouble
from ledgerq_api.settings import ApiSettings
from ledgerq_api.tasks.explaining import TEXTS
from ledgerq_monitor.flower_settings import FlowerSettings
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_shared.chinese import FOREIGN
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import SaidError, in_chinese
from ledgerq_shared.process import commands
from ledgerq_shared.settings import (
    LogSettings,
    MetricsSettings,
    SettingsError,
    StoreSettings,
    TracingSettings,
    load,
)
from ledgerq_worker.settings import MaintenanceSettings, WorkerSettings

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {
    "launcher": ROOT / "launcher",
    "ledgerq_shared": ROOT / "shared/src/ledgerq_shared",
    "ledgerq_api": ROOT / "services/api/src/ledgerq_api",
    "ledgerq_worker": ROOT / "services/worker/src/ledgerq_worker",
    "ledgerq_monitor": ROOT / "services/monitor/src/ledgerq_monitor",
}
SOURCES = sorted(path for folder in FOLDERS.values() for path in folder.rglob("*.py") if path.name != "chinese.py")
#: Calls that write for a person.
WRITERS = {"complain", "write", "print", "typer.echo", "output.tell", "sys.stderr.write", "_end", "_title"}
#: Modules whose ValueErrors are shown as those of a setting.
OF_SETTINGS = {"settings.py", "connecting.py", "redis_urls.py", "flower_settings.py"}
COMMAND_LINES = [ledgerq_api.cli.app, ledgerq_worker.main.cli, ledgerq_shared.migrate.app]
SETTINGS = [
    StoreSettings, LogSettings, TracingSettings, MetricsSettings, ApiSettings, WorkerSettings, MaintenanceSettings,
    MonitorSettings, FlowerSettings,
]  # fmt: skip
STORES = {"DATABASE_URL": "postgresql://127.0.0.1/x", "REDIS_URL": "redis://127.0.0.1/0"}
#: Nobody sets these values on purpose.
WRONG = ["x", "-1", "0", "1e999", "nan", "99999999999999", "x" * 5000, "redis+sentinel://x", "postgresql://x:y:z", "?"]


def every(kind: type) -> set[type]:
    return {kind}.union(*(every(one) for one in kind.__subclasses__()))


OURS = {kind.__name__ for kind in every(SaidError)}
ANSWERS = {kind for kind in every(LedgerQError) - {LedgerQError} if kind.__module__.startswith("ledgerq_")}


@functools.cache
def calls() -> list[tuple[Path, ast.Call]]:
    trees = ((path, ast.parse(path.read_text("utf-8"))) for path in SOURCES)
    return [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def literals(node: ast.expr) -> list[str]:
    """What an argument may be: a literal, or one of two."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return [*literals(one), *literals(other)]
    return []


def said() -> Iterator[tuple[str, str]]:
    """Each English text, and where it is."""
    for path, call in calls():
        if name_of(call) in OURS | {"say"} and call.args:
            yield from ((text, f"{path.relative_to(ROOT)}:{call.lineno}") for text in literals(call.args[0]))
    yield from ((text, f"explain: {code}") for code, text in TEXTS.items())
    yield from ((kind.title().template, f"title of {kind.__name__}") for kind in ANSWERS - {KeyTrouble})
    for app in COMMAND_LINES:
        command = typer.main.get_command(app)
        yield from ((text, f"help of {command.name}") for _, text in commands.help_texts(command))


def is_words(template: str) -> bool:
    """Whether there is anything to translate beside fields and punctuation."""
    return bool(re.search(r"[A-Za-z]", re.sub(r"\{[^{}]*\}", "", template)))


def catalogue(package: str) -> dict[str, str]:
    return importlib.import_module(f"{package}.chinese").CHINESE


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def is_literal(node: ast.expr) -> bool:
    """Whether it is English that nobody can translate any more: a literal with words, or an f-string with them."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(re.search(r"[A-Za-z]{2,} +[a-z]{2,}", text))
        case ast.JoinedStr(values=values):
            return any(map(is_literal, values))
        case ast.BinOp(left=left, right=right):
            return is_literal(left) or is_literal(right)
        case ast.IfExp(body=one, orelse=other):
            return is_literal(one) or is_literal(other)
    return False


def test_every_text_for_people_has_its_chinese():
    missing = {text: where for text, where in said() if is_words(text) and in_chinese(text) is None}
    assert not missing


def test_whatever_is_shown_to_people_can_be_translated():
    raw = []
    answers = {kind.__name__ for kind in ANSWERS}
    for path, call in calls():
        name, argument = name_of(call), call.args[0] if call.args else None
        if argument is None:
            continue
        is_error = name in answers or (name == "ValueError" and path.name in OF_SETTINGS)
        if (is_error and isinstance(argument, (ast.Constant, ast.JoinedStr)) and literals(argument) != [""]) or (
            name in WRITERS and is_literal(argument)
        ):
            raw.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}")
        if name in OURS | {"say"} and isinstance(argument, ast.JoinedStr):
            raw.append(f"{path.relative_to(ROOT)}:{call.lineno}: an f-string is English for good")
    assert not raw


@pytest.mark.parametrize("package", FOLDERS)
def test_the_chinese_has_the_fields_of_the_english(package):
    wrong = [english for english, chinese in catalogue(package).items() if fields(english) != fields(chinese)]
    assert not wrong


def test_no_chinese_is_left_of_a_text_that_is_gone():
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    used = (
        {node.value for node in nodes if isinstance(node, ast.Constant)} | {text for text, _ in said()} | set(FOREIGN)
    )
    assert not [english for package in FOLDERS for english in catalogue(package) if english not in used]


def refusals(settings: type[BaseSettings], name: str) -> Iterator[str]:
    """What is said of wrong values of a setting."""
    for value in WRONG:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name.upper(), value)
            try:
                load(settings)
            except SettingsError as error:
                yield str(error)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_whatever_is_wrong_with_a_setting_is_said_in_chinese(monkeypatch, settings):
    prefix = settings.model_config.get("env_prefix", "")
    for name in list(os.environ):
        if name.startswith(("LEDGERQ_", "DATABASE_", "REDIS_", "CELERY_")):
            monkeypatch.delenv(name)
    for name, url in STORES.items():
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("LEDGERQ_LOCALE", "zh_CN.UTF-8")
    texts = [
        text for field in settings.model_fields if field != "locale" for text in refusals(settings, f"{prefix}{field}")
    ]
    assert texts
    assert not [text for text in texts if not re.search(r"[\u4e00-\u9fff]", text)]
