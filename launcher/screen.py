"""The one screen that a person sees when everything is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
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
    console.print(_places(configuration, options, base))
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


def _places(configuration: Configuration, options: Options, base: str) -> Table:
    table = Table.grid(padding=(0, 2))
    if options.api:
        table.add_row("  API", base)
        table.add_row("  documentation", f"{base}/docs")
        table.add_row("  health", f"{base}/health")
    table.add_row("  worker", "running, with maintenance" if options.worker else "not started (--no-worker)")
    if options.monitor:
        table.add_row("  monitor", f"http://127.0.0.1:{configuration.monitor_port}/health")
    if configuration.stores is None:
        folder = configuration.data_folder.resolve()
        table.add_row("  data", f"{folder} (embedded PostgreSQL and Valkey)")
        table.add_row("  their URLs", f"{folder / 'urls.env'}")
    else:
        table.add_row("  data", "PostgreSQL and Redis as configured")
    return table
