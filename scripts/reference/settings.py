"""settings.md: every environment variable, from the settings classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from clients.celery.example_tasks.settings import ExampleTaskSettings
from ledgerq_api.settings import ApiSettings
from ledgerq_monitor.flower_settings import FlowerSettings
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_shared.settings import LogSettings, MetricsSettings, StoreSettings, TracingSettings
from ledgerq_worker.settings import MaintenanceSettings, WorkerSettings
from reference.tables import table

GROUPS: dict[str, type[BaseSettings]] = {
    "The stores, for every service": StoreSettings,
    "Logs, for every service": LogSettings,
    "Tracing, for API and workers": TracingSettings,
    "Metrics of workers and maintenance": MetricsSettings,
    "API": ApiSettings,
    "Worker": WorkerSettings,
    "Maintenance": MaintenanceSettings,
    "Monitor": MonitorSettings,
    "Flower": FlowerSettings,
    "Example tasks": ExampleTaskSettings,
}

#: Read before any settings class is built.
FILES = (
    (
        "LEDGERQ_SECRETS_DIR",
        "–",
        "folder",
        "Folder of files named after settings (`database_url`), with their values; what the environment says wins.",
    ),
)

#: Read by the launcher alone, before any settings class is built.
LAUNCHER = (
    (
        "LEDGERQ_DATA_DIR",
        "`.ledgerq`",
        "text",
        "Folder of the embedded servers' data, passwords, logs and pid records.",
    ),
)

#: What the Compose files read, with their defaults; comments say what each is.
_COMPOSE = Path(__file__).parent.parent.parent / "deploy" / "compose" / ".env.example"

#: Read by programs that call the API.
CLIENTS = (("LEDGERQ_API_KEY", "–", "text", "The API key that `test_task_api.py` sends; needed once a key was made."),)

#: Defaults that depend on the machine.
_COMPUTED = {"LEDGERQ_WORKER_CONCURRENCY": "one per CPU core", "LEDGERQ_DOCUMENTS": "the shipped samples"}

_INTRODUCTION = """# Settings

All settings are environment variables. `main.py` also reads a `.env` file in the current directory (what is set in the
environment wins) and passes everything on to the services; a service that is started by itself reads the environment
only. A setting that is missing or wrong is one line on standard error and exit code 2. How to choose them:
[the guide](../guides/configuration.md).
"""


def page() -> str:
    """The whole page."""
    text = _INTRODUCTION + "\n"
    titles = ("variable", "default", "values", "meaning")
    text += f"## Settings from files, for every service\n{table(titles, _rows_of(FILES))}"
    for title, group in GROUPS.items():
        text += f"## {title}\n{table(titles, _rows(group))}"
    text += f"## Launcher (`main.py`)\n{table(titles, _rows_of(LAUNCHER))}"
    text += f"## Clients\n{table(titles, _rows_of(CLIENTS))}"
    text += f"## Compose\n{table(titles[:2] + titles[3:], _compose_rows())}"
    return text.rstrip("\n") + "\n"


def _compose_rows() -> Iterator[tuple[str, ...]]:
    meaning = ""
    for line in _COMPOSE.read_text("utf-8").splitlines():
        name, is_variable, default = line.partition("=")
        if line.startswith("#"):
            meaning = line.removeprefix("# ")
        elif is_variable:
            yield f"`{name}`", f"`{default}`" if default else "–", meaning


def variables(group: type[BaseSettings]) -> dict[str, FieldInfo]:
    """The fields of a settings class by the names of their environment variables."""
    prefix = str(group.model_config.get("env_prefix") or "")
    return {f"{prefix}{name}".upper(): field for name, field in group.model_fields.items()}


def _rows(group: type[BaseSettings]) -> Iterator[tuple[str, ...]]:
    for name, field in variables(group).items():
        assert field.description, f"{name} has no description"
        yield f"`{name}`", _default(name, field), _values(field), field.description


def _rows_of(variables: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, ...]]:
    for name, default, values, meaning in variables:
        yield f"`{name}`", default, values, meaning


def _default(name: str, field: FieldInfo) -> str:
    if name in _COMPUTED:
        return _COMPUTED[name]
    assert field.default_factory is None, f"{name}: say in _COMPUTED what its default is"
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, float):
        return f"`{field.default:g}`"
    return "–" if field.default in (None, "") else f"`{field.default}`"


def _values(field: FieldInfo) -> str:
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    names: dict[Any, str] = {bool: "`true`, `false`", int: "whole number", float: "number", Path: "path"}
    bounds = [
        f"{word} {getattr(rule, sign):g}"
        for rule in field.metadata
        for sign, word in (("gt", "above"), ("ge", "at least"), ("le", "at most"), ("lt", "below"))
        if getattr(rule, sign, None) is not None
    ]
    return ", ".join([names.get(kind, "text"), *bounds])


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if get_origin(annotation) is not Literal and len(kinds) == 1 else annotation
