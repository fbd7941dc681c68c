"""The *panel*: the commands of Celery's remote control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel


def replace_commands(own: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Answer these commands, and their aliases, instead of Celery; returns the functions that answered them before."""
    before = {name: Panel.data[name] for name in own}
    for name, command in own.items():
        Panel.data[name] = command
        if alias := Panel.meta[name].alias:
            Panel.data[alias] = command
    return before
