"""Idempotency-Keys: a client that submits again under the same key gets the first answer, and creates no second
task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_api.auth.callers import ANYBODY
from ledgerq_shared.errors import DuplicateTask, IdempotencyKeyReused, LedgerUnavailable, ScopeMissing
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.idempotency import (
    KeyedSubmit,
    KnownKey,
    find_keys,
    keep_beside,
    redirect_keys,
    reserve_keys,
)
from ledgerq_shared.statements.unique import submitters_of
from ledgerq_shared.states import State
from ledgerq_shared.tasks.submitting import Existing

#: Each further look means that an Idempotency-Key was forgotten between two statements.
_LOOKS = 10


class Reserved(NamedTuple):
    """Keys that are in the ledger, by :attr:`KeyedSubmit.apart`."""

    #: The name under which each is stored: its own name, or ``apart`` if another owner has the same key.
    names: dict[str, str]
    #: What is known about those that their owner has used before.
    known: dict[str, KnownKey]


class Repeats(NamedTuple):
    """What is known about the keys of several submits."""

    #: By the id of the task that a submit would make, if its key was used before: the first submit's task, or a
    #: refusal.
    outcomes: dict[UUID, UUID | Existing | IdempotencyKeyReused]
    #: By :attr:`KeyedSubmit.apart`: the name under which each key is stored.
    names: dict[str, str]


def reserve(cursor: Cursor, keys: Mapping[str, KeyedSubmit]) -> Reserved:
    """Take keys, which are given by :attr:`KeyedSubmit.apart`.

    Raises:
        LedgerUnavailable: a key is forgotten and used again all the time.
    """
    names: dict[str, str] = {}
    known: dict[str, KnownKey] = {}
    wanted, apart = keys, dict[str, KeyedSubmit]()
    for _ in range(_LOOKS):
        won = set(execute(cursor, reserve_keys(wanted.values()))) if wanted else set()
        names |= {own: key.key for own, key in wanted.items() if (key.key, key.owner) in won}
        if apart:
            names |= {own: own for own, _ in execute(cursor, reserve_keys(apart.values(), apart=True))}
        lost = {own: key for own, key in keys.items() if own not in names}
        if not lost:
            break
        rows = _known(cursor, lost.values())
        strangers: dict[str, KeyedSubmit] = {}
        for own, key in lost.items():
            row = rows.get(own) or rows.get(key.key)
            if row is not None and _is_of(row, key):
                names[own], known[own] = row.key, row
            elif row is not None:
                strangers[own] = key
        # A key that had an owner a moment ago and has none now was forgotten in between: it may be taken.
        beside = [key.key for key in strangers.values()]
        kept = {name for (name,) in execute(cursor, keep_beside(beside))} if beside else set()
        apart = {own: key for own, key in strangers.items() if key.key in kept}
        wanted = {own: key for own, key in lost.items() if own not in names and own not in apart}
        if not wanted and not apart:
            break
    else:
        raise LedgerUnavailable(say("The Idempotency-Key comes and goes too fast just now; try again."), is_busy=True)
    return Reserved(names, known)


def _known(cursor: Cursor, keys: Iterable[KeyedSubmit]) -> dict[str, KnownKey]:
    """What the ledger knows about these keys, by the name under which each is stored."""
    rows = execute(cursor, find_keys(keys))
    of_older_releases = [UUID(row.task_id) for row in rows if row.owner is None]
    submitters = dict(execute(cursor, submitters_of(of_older_releases))) if of_older_releases else {}
    return {row.key: row._replace(owner=row.owner or submitters.get(row.task_id)) for row in rows}


def find_repeats(cursor: Cursor, keyed: Sequence[tuple[UUID, KeyedSubmit]]) -> Repeats:
    """Take the keys of several submits, each with the id of the task that it would make."""
    if not keyed:
        return Repeats({}, {})
    owners: dict[str, KeyedSubmit] = {}
    for _, key in keyed:
        owners.setdefault(key.apart, key)
    names, all_known = reserve(cursor, owners)
    if not all_known and len(owners) == len(keyed):
        return Repeats({}, names)
    found: dict[str, Existing] = {}
    for own, known in all_known.items():
        owners[own] = KeyedSubmit(known.key, bytes(known.body_sha256), UUID(known.task_id))
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
