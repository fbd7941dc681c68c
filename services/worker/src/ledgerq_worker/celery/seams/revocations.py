"""The memory of *revokes*: Celery's own, of this process, in which ids stay for three hours and stamps for good.

An id may be revoked before its message is here. Each node hears the broadcast, remembers, and then looks into the
ledger; whoever adopts a message commits, and then looks here. So one of both finds the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import state


def remember_ids(ids: Iterable[str]) -> None:
    """Remember ids that are revoked."""
    state.revoked.update(ids)


def remember_stamps(stamps: Mapping[str, Any]) -> None:
    """Remember that tasks with one of these stamps are revoked."""
    for header, values in stamps.items():
        before = list(maybe_list(state.revoked_stamps.get(header)) or [])
        state.revoked_stamps[header] = before + [one for one in maybe_list(values) or [] if one not in before]


def known_ids() -> list[str]:
    """The ids that are remembered."""
    return list(state.revoked)


def is_revoked(headers: Mapping[str, Any]) -> bool:
    """Whether a message with these headers must not run."""
    if not state.revoked and not state.revoked_stamps:
        return False
    return str(headers["id"]) in state.revoked or is_stamped(headers.get("stamps"), state.revoked_stamps)


def is_stamped(stamps: object, revoked: Mapping[str, Any]) -> bool:
    """Whether a task's stamps have one of these values.

    Args:
        stamps: as in a message's headers: one value or a list for each name.
    """
    if not isinstance(stamps, dict):
        return False
    return any(
        value in (maybe_list(revoked[name]) or [])
        for name in stamps.keys() & revoked.keys()
        for value in maybe_list(stamps[name]) or []
    )
