"""The one screen that a person sees when everything is up."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console

from ledgerq_shared.languages import say, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.configuration import Configuration
    from launcher.options import Options

_DOCUMENT = (
    '{"task_type": "clients.celery.example_tasks.process_document", "task_parameters": '
    '{"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}}}'
)
#: Some ten seconds of work on one core.
_PRIMES = 1_000_000_000
_EXAMPLE = (
    '{"task_type": "clients.celery.example_tasks.long_running", "task_parameters": {"limit": %d}}' % _PRIMES  # noqa: UP031 - it has braces
)

#: Of a stream, what the task reports.
_PROGRESS = """grep --line-buffered -o '"progress" *:.*"'"""


def show(configuration: Configuration, options: Options, registered: str = "", console: Console | None = None) -> None:
    """Print what runs, where to look first, what to try, and how to stop.

    Args:
        registered: what ``ledgerq-worker register --json`` printed.
    """
    console = console or Console(highlight=False)
    base = f"http://{visible_host(configuration.api_host)}:{configuration.api_port}"
    console.print()
    _title(console, say("LedgerQ is running."), "bold green")
    for name, place in _places(configuration, options, base, registered):
        console.print(
            f"  {_padded(told(name))} {told(place)}", soft_wrap=True, markup=False
        )  # a path must stay in one piece
    if options.api:
        _title(console, say("Try it in a second terminal: a 15-page document, really read"))
        console.print(f"  curl -s {base}/tasks/submit -H 'Content-Type: application/json' \\", soft_wrap=True)
        console.print(f"    -d '{_DOCUMENT}'", soft_wrap=True, markup=False)
        console.print(f"  curl -s {base}/tasks/<task_id>/status", soft_wrap=True, markup=False)
    if options.api and options.worker:
        _title(console, say("Watch it work: some ten seconds, with moving progress"))
        console.print(f"  ID=$(curl -s {base}/tasks/submit -H 'Content-Type: application/json' \\", soft_wrap=True)
        console.print(f"""    -d '{_EXAMPLE}' | cut -d'"' -f4)""", soft_wrap=True, markup=False)
        console.print(f"  curl -sN {base}/tasks/$ID/stream | {_PROGRESS}", soft_wrap=True, markup=False)
    _title(console, say("Stop with Ctrl-C; the data stay."))
    console.print()


def _title(console: Console, text: str, style: str = "bold") -> None:
    console.print(f"[{style}]{told(text)}[/]")


def visible_host(host: str) -> str:
    """Return the name by which a browser on this machine reaches ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _padded(name: str) -> str:
    """A Chinese character is two columns wide."""
    return name + " " * (16 - len(name) - sum(not character.isascii() for character in name))


def _places(configuration: Configuration, options: Options, base: str, registered: str) -> Iterator[tuple[str, str]]:
    if options.api:
        yield say("look here first"), f"{base}/docs"
        yield say("health"), f"{base}/health"
    if options.monitor:
        yield "Flower", f"http://127.0.0.1:{configuration.flower_port}"
    if types := _by_module(registered):
        parts = (say("{count} from {module}", count=types[module], module=module) for module in types)
        yield say("task types"), ", ".join(map(told, parts))
    yield say("worker"), say("running, with maintenance" if options.worker else "not started (--no-worker)")
    if options.monitor:
        yield say("monitor"), f"http://127.0.0.1:{configuration.monitor_port}/health"
        place = f"http://127.0.0.1:{configuration.monitor_port}/metrics"
        ports = ", ".join(_metrics_ports(configuration, options))
        yield say("metrics"), say("{place}; /metrics also on ports {ports}", place=place, ports=ports)
    if configuration.stores is None:
        folder = configuration.data_folder.resolve()
        yield say("data"), say("{folder} (embedded PostgreSQL and Valkey)", folder=folder)
        yield say("their URLs"), f"{folder / 'urls.env'}"
    else:
        yield say("data"), say("PostgreSQL and Redis as configured")


def _metrics_ports(configuration: Configuration, options: Options) -> Iterator[str]:
    if options.api:
        yield f"{configuration.api_port} (API)"
    if options.worker and (port := configuration.metrics_port) is not None:
        yield from (f"{port} (worker)", f"{port + 1} (maintenance)")


def _by_module(registered: str) -> dict[str, int]:
    names = json.loads(registered)["task_types"] if registered else []
    return dict(Counter(name.rpartition(".")[0] or name for name in names).most_common())
