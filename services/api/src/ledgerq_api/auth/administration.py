"""What people do with keys: create, list and revoke them. It is synchronous, for the command line."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.keys import digest_of, is_key, new_key, new_key_id
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import Said, reason, say
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.api_keys import ApiKeyRow, add_key, find_key, list_keys, revoke_key


class KeyTrouble(LedgerQError):
    """Something is wrong with a key or with the file that contains it."""

    code = "key_trouble"
    status = 500


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that is now in the ledger."""

    row: ApiKeyRow
    #: The key itself; None: it was there already.
    key: str | None


class KeyStore:
    """The ledger's API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(
        self, *, name: str, scopes: Collection[KeyScope], expires_in: float | None, key: str | None = None
    ) -> MadeKey:
        """Put a key into the ledger.

        Args:
            expires_in: seconds; None: it does not expire.
            key: a key that a person supplies; None: a new one. If the ledger knows it already, nothing changes.
        """
        text = key or new_key()
        digest = digest_of(text.encode())
        with self._database.transaction() as cursor:
            made = execute(
                cursor,
                add_key(
                    key_id=new_key_id(), sha256=digest, name=name, scopes=sorted(set(scopes)), expires_in=expires_in
                ),
            )
            [row] = execute(cursor, find_key(digest))
        return MadeKey(row, text if made else None)

    def all(self) -> list[ApiKeyRow]:
        """All keys, oldest first."""
        with self._database.transaction() as cursor:
            return execute(cursor, list_keys())

    def revoke(self, key_id: str) -> bool:
        """Revoke a key for good; returns False if it was revoked already.

        Raises:
            KeyTrouble: there is no such key.
        """
        with self._database.transaction() as cursor:
            found = execute(cursor, revoke_key(key_id))
        match found:
            case [(was_revoked,)]:
                return not was_revoked
        raise KeyTrouble(say("no API key has the id {id!r}; `ledgerq keys list` shows them", id=key_id[:100]))


def read_key_file(path: Path) -> str | None:
    """The key in a file; None: there is no such file, or it is empty.

    Raises:
        KeyTrouble: it holds something else, or cannot be read.
    """
    try:
        text = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyTrouble(say("cannot read {path}: {why}", path=path, why=_reason(error))) from None
    if text and not is_key(text):
        raise KeyTrouble(
            say(
                "{path} does not hold an API key: 43 to 200 letters, digits, '-' and '_' are expected on one line "
                "(`openssl rand -hex 32` makes them)",
                path=path,
            )
        )
    return text or None


def write_key_file(path: Path, key: str, *, mode: int) -> None:
    """Write a key into a file, completely or not at all.

    Args:
        mode: the file's permissions.

    Raises:
        KeyTrouble
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{key}\n")
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise KeyTrouble(say("cannot write {path}: {why}", path=path, why=_reason(error))) from None


def described(row: ApiKeyRow) -> dict[str, object]:
    """A key in a form for programs."""
    times = {"created_at": row.created_at, "expires_at": row.expires_at, "last_used_at": row.last_used_at}
    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes,
        "state": row.state,
        **{name: _rfc3339(moment) for name, moment in times.items()},
        "revoked_at": _rfc3339(row.revoked_at),
    }


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _reason(error: Exception) -> Said:
    return reason(error) if isinstance(error, OSError) else say("it is not text")
