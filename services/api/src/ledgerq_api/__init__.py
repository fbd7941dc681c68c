"""LedgerQ's HTTP API: submit, follow and list tasks."""

__version__ = "0.1.0"
