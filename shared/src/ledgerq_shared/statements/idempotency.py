"""Idempotency-Keys: taken in the transaction of the submit, found again by a repeated one, and what they stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import id_array, plain_array, text_array


class KeyedSubmit(NamedTuple):
    """An Idempotency-Key with the request for which it was used."""

    key: str
    #: SHA-256 of the request that the key belongs to.
    body_sha256: bytes
    task_id: UUID
    #: Who uses it, as :attr:`~ledgerq_shared.statements.submit.NewTask.actor`; each owner has keys of its own.
    owner: str = "api"

    @property
    def apart(self) -> str:
        """The name under which it is stored if another owner has used the same key first."""
        return f"{self.key}\n{self.owner}"  # no key contains a line break


def reserve_keys(keys: Collection[KeyedSubmit], *, apart: bool = False) -> Statement[tuple[str, str]]:
    """Take Idempotency-Keys. Key and owner of those that were free; run before ``submit_tasks``, same transaction.

    The first owner's key is stored under its own name, where older releases look for it; the keys of all other owners
    are stored ``apart``. If another transaction is just taking a key, the statement waits for it. A caller that does
    not get a key reads the winner's row with :func:`find_keys` in a separate statement, so that it sees what the winner
    committed. If there is no row, the key was forgotten meanwhile, and is free. Keys are locked in one order, whatever
    the database's collation is.
    """
    return Statement(
        _RESERVE_KEYS,
        {
            "key": text_array(key.apart if apart else key.key for key in keys),
            "owner": text_array(key.owner for key in keys),
            "sha": plain_array(key.body_sha256.hex() for key in keys),
            "task_id": id_array([key.task_id for key in keys]),
        },
        "reserve_keys",
    )


_RESERVE_KEYS = """
INSERT INTO idempotency (key, body_sha256, task_id, created_at, owner)
SELECT key, decode(sha, 'hex'), task_id, now(), owner
FROM unnest(%(key)s::text[], %(sha)s::text[], %(task_id)s::uuid[], %(owner)s::text[])
     AS i(key, sha, task_id, owner)
ORDER BY key COLLATE "C"
ON CONFLICT DO NOTHING RETURNING key, owner
"""


class KnownKey(NamedTuple):
    """What is known about an Idempotency-Key that was used."""

    key: str
    body_sha256: memoryview
    task_id: str
    #: The answer to a batch, or the state of the existing task that a single submit got instead of its own.
    answer: str | None
    #: Who used it; None: this is no longer known.
    owner: str | None


def find_keys(keys: Iterable[KeyedSubmit]) -> Statement[KnownKey]:
    """Returns the given Idempotency-Keys of all owners, including those that are stored ``apart``. In a row of an older
    release there is no owner: it is the submitter of the task.
    """
    names = [name for key in keys for name in (key.key, key.apart)]
    return Statement(_FIND_KEYS, {"key": text_array(names)}, "find_keys", row=KnownKey._make)


_FIND_KEYS = "SELECT key, body_sha256, task_id, answer, owner FROM idempotency WHERE key = ANY(%(key)s::text[])"


def keep_beside(keys: Sequence[str]) -> Statement[tuple[str]]:
    """Let those Idempotency-Keys be remembered at least as long as the ones that are now stored ``apart``. Returns
    those that are still there. Otherwise the second owner would some day find the name free and become the first.
    """
    return Statement(_KEEP_BESIDE, {"key": text_array(keys)})


_KEEP_BESIDE = """
UPDATE idempotency SET created_at = now() WHERE key = ANY (ARRAY(
  SELECT key FROM idempotency WHERE key = ANY(%(key)s::text[]) ORDER BY key COLLATE "C" FOR UPDATE))
RETURNING key
"""


def keep_answer(key: str, answer: str) -> Statement[Nothing]:
    """Keep the answer to a batch, in the transaction that has reserved its Idempotency-Key."""
    return Statement(_KEEP_ANSWER, {"key": key, "answer": answer})


_KEEP_ANSWER = "UPDATE idempotency SET answer = %(answer)s WHERE key = %(key)s"


def redirect_keys(answers: Mapping[str, tuple[UUID, str] | None]) -> Statement[Nothing]:
    """Change what Idempotency-Keys stand for, in the transaction that has reserved them.

    Args:
        answers: key → the task that is the answer, and its state at that time; None: nothing was accepted, and the key
            is free again. Its row stays, without an owner, if others have the same key ``apart`` in the same
            transaction.
    """
    return Statement(
        _REDIRECT_KEYS,
        {
            "key": text_array(answers),
            "task_id": plain_array(answer and answer[0] for answer in answers.values()),
            "state": plain_array(answer and answer[1] for answer in answers.values()),
        },
    )


_REDIRECT_KEYS = """
WITH input AS (
  SELECT i.key, i.task_id, i.state, EXISTS (
    SELECT FROM idempotency b WHERE b.key > i.key || E'\\n' AND b.key < i.key || E'\\x0b') AS has_neighbours
  FROM unnest(%(key)s::text[], %(task_id)s::uuid[], %(state)s::text[]) AS i(key, task_id, state)
), freed AS (
  DELETE FROM idempotency d USING input i WHERE d.key = i.key AND i.task_id IS NULL AND NOT i.has_neighbours
), left_behind AS (
  UPDATE idempotency d SET owner = '' FROM input i WHERE d.key = i.key AND i.task_id IS NULL AND i.has_neighbours
)
UPDATE idempotency d SET task_id = i.task_id, answer = i.state FROM input i
WHERE d.key = i.key AND i.task_id IS NOT NULL
"""
