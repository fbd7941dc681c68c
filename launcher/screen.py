"""The one screen that a person sees when everything is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.configuration import Configuration
    from launcher.options import Options

_EXAMPLE = (
    '{"task_type": "clients.celery.example_tasks.process_document", "task_parameters": '
    '{"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}}}'
)


def show(configuration: Configuration, options: Options, console: Console | None = None) -> None:
    """Print where everything is, what to try, and how to stop."""
    console = console or Console(highlight=False)
    base = f"http://{visible_host(configuration.api_host)}:{configuration.api_port}"
    console.print()
    console.print("[bold green]LedgerQ is running.[/]")
    for name, place in _places(configuration, options, base):
        console.print(f"  {name:<14} {place}", soft_wrap=True, markup=False)  # a path must stay in one piece
    if options.api:
        console.print("[bold]Try it[/] (a 15-page document, really read):")
        console.print(f"  curl -s {base}/tasks/submit -H 'Content-Type: application/json' \\", soft_wrap=True)
        console.print(f"    -d '{_EXAMPLE}'", soft_wrap=True, markup=False)
        console.print(f"  curl -s {base}/tasks/<task_id>/status", soft_wrap=True, markup=False)
    console.print("[bold]Stop[/] with Ctrl-C; the data stay.")
    console.print()


def visible_host(host: str) -> str:
    """Return the name by which a browser on this machine reaches ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _places(configuration: Configuration, options: Options, base: str) -> Iterator[tuple[str, str]]:
    if options.api:
        yield "API", base
        yield "documentation", f"{base}/docs"
        yield "health", f"{base}/health"
    yield "worker", "running, with maintenance" if options.worker else "not started (--no-worker)"
    if options.monitor:
        yield "monitor", f"http://127.0.0.1:{configuration.monitor_port}/health"
        yield "metrics", f"http://127.0.0.1:{configuration.monitor_port}/metrics"
        if options.api:
            yield "of the API", f"{base}/metrics"
    if options.worker and (port := configuration.metrics_port) is not None:
        yield "of the worker", f"http://127.0.0.1:{port}/metrics; of maintenance: port {port + 1}"
    if options.monitor:
        yield "Flower", f"http://127.0.0.1:{configuration.flower_port}"
    if configuration.stores is None:
        folder = configuration.data_folder.resolve()
        yield "data", f"{folder} (embedded PostgreSQL and Valkey)"
        yield "their URLs", f"{folder / 'urls.env'}"
    else:
        yield "data", "PostgreSQL and Redis as configured"
