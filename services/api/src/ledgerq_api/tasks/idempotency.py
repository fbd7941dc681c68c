"""Idempotency-Keys: a client that submits again under the same key gets the first answer, and creates no second
task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_api.auth.callers import ANYBODY
from ledgerq_shared.database import Cursor, execute
from ledgerq_shared.errors import DuplicateTask, IdempotencyKeyReused, LedgerUnavailable, ScopeMissing
from ledgerq_shared.statements.submit import (
    KeyedSubmit,
    KnownKey,
    find_keys,
    keep_beside,
    redirect_keys,
    reserve_keys,
)
from ledgerq_shared.states import State
from ledgerq_shared.submitting import Existing

#: Each further look means that an Idempotency-Key was forgotten between two statements.
_LOOKS = 10


class Reserved(NamedTuple):
    """A key that is in the ledger."""

    #: The name under which it is stored: its own name, or ``apart`` if another owner has the same key.
    name: str
    #: What is known about it, if its owner has used it before; otherwise None.
    known: KnownKey | None


class Repeats(NamedTuple):
    """What is known about the keys of several submits."""

    #: By the id of the task that a submit would make, if its key was used before: the first submit's task, or a
    #: refusal.
    outcomes: dict[UUID, UUID | Existing | IdempotencyKeyReused]
    #: By :attr:`KeyedSubmit.apart`: the name under which each key is stored.
    names: dict[str, str]


def reserve(cursor: Cursor, keys: Sequence[KeyedSubmit]) -> dict[str, Reserved]:
    """Take keys; returns them by :attr:`KeyedSubmit.apart`.

    Raises:
        LedgerUnavailable: a key is forgotten and used again all the time.
    """
    found: dict[str, Reserved] = {}
    apart: list[KeyedSubmit] = []
    for _ in range(_LOOKS):
        won = {(name, owner) for name, owner in execute(cursor, reserve_keys(keys))} if keys else set()
        beside = {name for name, _ in execute(cursor, reserve_keys(apart, apart=True))} if apart else set()
        found |= {key.apart: Reserved(key.key, None) for key in keys if (key.key, key.owner) in won}
        found |= {name: Reserved(name, None) for name in beside}
        lost = [key for key in (*keys, *apart) if key.apart not in found]
        if not lost:
            return found
        rows = {row.key: row for row in execute(cursor, find_keys(lost))}
        strangers: list[KeyedSubmit] = []
        for key in lost:
            row = rows.get(key.apart) or rows.get(key.key)
            if row is not None and _is_of(row, key):
                found[key.apart] = Reserved(row.key, row)
            elif row is not None:
                strangers.append(key)
        # A key that had an owner a moment ago and has none now was forgotten in between: it may be taken.
        names = [key.key for key in strangers]
        kept = {name for (name,) in execute(cursor, keep_beside(names))} if names else set()
        apart = [key for key in strangers if key.key in kept]
        keys = [key for key in lost if key.apart not in found and key.key not in kept]
        if not keys and not apart:
            return found
    raise LedgerUnavailable("The Idempotency-Key comes and goes too fast just now; try again.", is_busy=True)


def find_repeats(cursor: Cursor, keyed: Sequence[tuple[UUID, KeyedSubmit]]) -> Repeats:
    """Take the keys of several submits, each with the id of the task that it would make."""
    if not keyed:
        return Repeats({}, {})
    owners: dict[str, KeyedSubmit] = {}
    for _, key in keyed:
        owners.setdefault(key.apart, key)
    found: dict[str, Existing] = {}
    names: dict[str, str] = {}
    for own, (name, known) in reserve(cursor, list(owners.values())).items():
        names[own] = name
        if known is not None:
            owners[own] = KeyedSubmit(name, bytes(known.body_sha256), UUID(known.task_id))
            if known.answer in set(State):  # otherwise it is a batch's answer, which has another form
                found[own] = Existing(owners[own].task_id, State(known.answer))
    outcomes: dict[UUID, UUID | Existing | IdempotencyKeyReused] = {}
    for task_id, key in keyed:
        owner = owners[key.apart]
        if owner.body_sha256 != key.body_sha256:
            outcomes[task_id] = IdempotencyKeyReused()
        elif owner.task_id != task_id:
            outcomes[task_id] = found.get(key.apart, owner.task_id)
    return Repeats(outcomes, names)


def redirect(
    cursor: Cursor,
    keyed: Sequence[tuple[UUID, KeyedSubmit]],
    others: Mapping[UUID, Existing | DuplicateTask | ScopeMissing],
    names: Mapping[str, str],
) -> None:
    """Let the keys of submits that made no task stand for the task that they got instead."""
    moved = {
        names[key.apart]: (other.id, other.state.value) if isinstance(other, Existing) else None
        for task_id, key in keyed
        if (other := others.get(task_id)) is not None
    }
    if moved:
        execute(cursor, redirect_keys(moved))


def _is_of(row: KnownKey, key: KeyedSubmit) -> bool:
    """Whether a row with the key's name belongs to its owner. A submit from a time when nobody needed an API key
    belongs to any caller that repeats it.
    """
    if row.key == key.apart or row.owner == key.owner:
        return True
    return row.owner in {None, ANYBODY} and bytes(row.body_sha256) == key.body_sha256
