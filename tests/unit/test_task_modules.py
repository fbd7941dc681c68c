"""Task modules are found where users keep them, and what is wrong with one is said in one line."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgerq_worker.catalogue import task_modules
from ledgerq_worker.catalogue.task_modules import EXAMPLES, TaskModuleError, load_task_modules, module_names


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten afterwards."""
    import clients.celery

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(clients, "__path__", list(clients.__path__))
    monkeypatch.setattr(clients.celery, "__path__", list(clients.celery.__path__))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("setting", "names"),
    [("", []), (" , ,", []), ("tasks", ["tasks"]), (" a.b , c,a.b", ["a.b", "c"])],
)
def test_the_setting_is_a_list_of_names(setting: str, names: list[str]):
    assert module_names(setting) == names


def test_the_examples_are_loaded_unless_they_are_unwanted():
    assert load_task_modules([]) == [EXAMPLES]
    assert load_task_modules([], examples=False) == []


def test_modules_in_the_current_directory_are_importable(project: Path):
    (project / "my_tasks.py").write_text("import my_data")
    (project / "my_data.py").write_text("")
    (project / "proj").mkdir()
    (project / "proj" / "jobs.py").write_text("")
    assert load_task_modules(["my_tasks", "proj.jobs", "my_tasks"]) == [EXAMPLES, "my_tasks", "proj.jobs"]


@pytest.mark.parametrize("with_init", [True, False])
def test_a_users_own_clients_folder_joins_the_shipped_package(project: Path, with_init: bool):
    folder = project / "clients" / "celery"
    folder.mkdir(parents=True)
    (folder / "own_tasks.py").write_text("import clients.celery.example_tasks")
    if with_init:
        (project / "clients" / "__init__.py").write_text("")
        (folder / "__init__.py").write_text("")
    assert load_task_modules(["clients.celery.own_tasks"]) == [EXAMPLES, "clients.celery.own_tasks"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import pandas_that_is_absent", "ModuleNotFoundError: No module named 'pandas_that_is_absent'"),
        ("x = 1\nraise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def broken(:\n    pass", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_fails_is_named_with_the_reason_in_one_line(project: Path, source: str, message: str):
    (project / "failing.py").write_text(source)
    with pytest.raises(TaskModuleError) as caught:
        load_task_modules(["failing"])
    text = str(caught.value)
    assert text.startswith("LEDGERQ_TASK_MODULES: importing 'failing' failed: ")
    assert message in text
    assert "failing.py" in text
    assert "line " in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["nowhere_to_be_found", "clients.nowhere", "nowhere_to_be_found.tasks"])
def test_a_module_that_does_not_exist_is_told_from_one_that_fails(name: str):
    with pytest.raises(TaskModuleError, match=f"there is no module '{name}'"):
        load_task_modules([name])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tasks.py", "name the module: tasks"),
        ("./proj/tasks.py", r"name the module: proj\.tasks"),
        ("my-tasks", "cannot be a module's name"),
        (".tasks", "cannot be a module's name"),
        ("a b", "cannot be a module's name"),
    ],
)
def test_a_name_that_is_no_modules_is_explained(name: str, hint: str):
    with pytest.raises(TaskModuleError, match=hint):
        load_task_modules([name])


def test_installed_packages_add_tasks_through_an_entry_point(project: Path, monkeypatch: pytest.MonkeyPatch):
    (project / "plugin_tasks.py").write_text("")
    found = importlib.metadata.EntryPoint("plugin", "plugin_tasks", "ledgerq.tasks")
    monkeypatch.setattr(task_modules, "entry_points", lambda group: [found] if group == "ledgerq.tasks" else [])
    assert load_task_modules([]) == [EXAMPLES, "plugin_tasks"]


def test_a_failing_entry_point_is_named(monkeypatch: pytest.MonkeyPatch):
    found = importlib.metadata.EntryPoint("plugin", "plugin_that_is_absent", "ledgerq.tasks")
    monkeypatch.setattr(task_modules, "entry_points", lambda **_: [found])
    with pytest.raises(TaskModuleError, match="entry point 'plugin' of an unknown package"):
        load_task_modules([])
