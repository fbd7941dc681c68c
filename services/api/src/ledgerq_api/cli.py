"""``ledgerq``: what operators do from a shell. Errors are one line and a non-zero exit code."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psycopg2
import typer
from dotenv import dotenv_values
from rich.console import Console
from rich.table import Table

from ledgerq_api.auth.administration import (
    KeyStore,
    KeyTrouble,
    MadeKey,
    described,
    read_key_file,
    write_key_file,
)
from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.new_project import init
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import say, told
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.process.commands import complain, run_app, write
from ledgerq_shared.settings import SettingsError, StoreSettings, load

app = typer.Typer(help="Administer LedgerQ.", no_args_is_help=True, pretty_exceptions_enable=False)
keys = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.command("init")(init)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 3650 * 86_400
#: Of the table of keys.
_COLUMNS = [say(name) for name in ("id", "name", "scopes", "state", "created", "expires", "last used")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.callback()
def _ledgerq() -> None:
    """Administer LedgerQ. Reads DATABASE_URL and REDIS_URL as the services do, from `.env`, too; where neither is set,
    the embedded servers of this folder are meant, while they run.
    """
    _read_environment()


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="Whose key it is, for people.")] = "unnamed",
    scope: Annotated[list[KeyScope] | None, typer.Option(help="What it may do; several are allowed.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, 12h, 30m …; never unless given.")] = None,
    file: Annotated[Path | None, typer.Option(help="Write the key into this file instead of printing it.")] = None,
    mode: Annotated[str, typer.Option(help="The file's permissions, octal.")] = "600",
    if_none: Annotated[
        bool,
        typer.Option(
            "--if-none",
            help="With --file: only if the file holds no key yet. The key of a file that is there is made known to the "
            "ledger. Running it again changes nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once; the ledger keeps its SHA-256 only."""
    with _errors():
        if if_none and file is None:
            raise SettingsError("--if-none needs --file")
        if not scope:
            raise SettingsError("--scope is missing: {scopes}", scopes=", ".join(KeyScope))
        permissions = _octal(mode)
        seconds = None if expires is None else _seconds(expires)
        brought = None if file is None else read_key_file(file)
        if brought is not None and not if_none:
            raise KeyTrouble(say("{file} holds a key already; remove it, or keep its key with --if-none", file=file))
        if not 0 < len(name) <= 200 or not name.isprintable():
            raise SettingsError("--name: 1 to 200 printable characters are allowed")
        with _store() as store:
            made = store.make(name=name, scopes=scope, expires_in=seconds, key=brought)
            if file is not None and brought is None and made.key is not None:
                _write_or_revoke(store, made, file, permissions)
        _say_made(made, file, is_brought=brought is not None, as_json=as_json)


@keys.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the keys, without the keys themselves."""
    with _errors(), _store() as store:
        rows = store.all()
    if as_json:
        typer.echo(json.dumps([described(row) for row in rows], ensure_ascii=False, indent=2))
        return
    if not rows:
        write(say("no API key was ever made: `ledgerq keys create` makes one"))
        return
    table = Table(*map(told, _COLUMNS), box=None, pad_edge=False)
    for row in rows:
        moments = (row.created_at, row.expires_at, row.last_used_at)
        times = ["–" if moment is None else f"{moment:%Y-%m-%d %H:%M}" for moment in moments]
        table.add_row(row.id, row.name, " ".join(row.scopes), row.state, *times)
    # Output into a pipe must not be cut off.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, from `ledgerq keys list`.")], as_json: AsJson = False
) -> None:
    """Revoke a key for good. Every API process refuses it within seconds."""
    with _errors(), _store() as store:
        is_news = store.revoke(key_id)
    if as_json:
        typer.echo(json.dumps({"id": key_id, "state": "revoked", "changed": is_news}))
    else:
        write(say("key {id} is revoked" if is_news else "key {id} was revoked already", id=key_id))


def _write_or_revoke(store: KeyStore, made: MadeKey, file: Path, mode: int) -> None:
    """Write the key into the file, or revoke it: a key that nobody ever sees must not stay usable."""
    assert made.key is not None
    try:
        write_key_file(file, made.key, mode=mode)
    except KeyTrouble:
        store.revoke(made.row.id)
        raise


def _say_made(made: MadeKey, file: Path | None, *, is_brought: bool, as_json: bool) -> None:
    is_shown, scopes = file is None, " ".join(made.row.scopes)
    if as_json:
        shown = {"key": made.key} if is_shown else {"file": str(file)}
        typer.echo(json.dumps({**described(made.row), "created": made.key is not None, **shown}, ensure_ascii=False))
    elif is_shown:
        typer.echo(made.key)
        write(say("key {id} ({scopes}); it is not shown again", id=made.row.id, scopes=scopes), err=True)
    elif made.key is None:
        write(say("the key in {file} is known: {id} ({scopes})", file=file, id=made.row.id, scopes=scopes))
    elif is_brought:
        write(say("the key in {file}: {id} ({scopes})", file=file, id=made.row.id, scopes=scopes))
    else:
        write(say("a new key is in {file}: {id} ({scopes})", file=file, id=made.row.id, scopes=scopes))
    if made.row.state != "usable":
        said = say("key {id} is {state}: remove {file} for a new one", id=made.row.id, state=made.row.state, file=file)
        complain("ledgerq", said)


def _read_environment() -> None:
    """What the launcher reads: `.env` of the current folder, then where the embedded servers listen."""
    _add_from(Path(".env"))
    if not any(os.environ.get(name, "").strip() for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")):
        _add_from(Path(os.environ.get("LEDGERQ_DATA_DIR") or ".ledgerq", "urls.env"))


def _add_from(path: Path) -> None:
    if path.is_file():
        for name, value in dotenv_values(path).items():
            if value and not os.environ.get(name, "").strip():
                os.environ[name] = value


@contextmanager
def _store() -> Iterator[KeyStore]:
    database = Database(load(StoreSettings).database_url, application_name="ledgerq-cli", size=1, is_brief=True)
    try:
        yield KeyStore(database)
    finally:
        database.close()


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors into one line for people: exit 2 for wrong input, 1 for a failure."""
    try:
        yield
    except SettingsError as error:
        _end(error.said, 2)
    except LedgerQError as error:
        _end(error.said, 1)
    except psycopg2.errors.UndefinedTable:
        _end(say("the ledger has no table of API keys yet: run `ledgerq-migrate upgrade` first"), 1)
    except psycopg2.Error as error:
        why = (error.diag.message_primary or str(error)).splitlines()[0]
        _end(say("PostgreSQL refuses it: {why}", why=why), 1)


def _end(why: str, code: int) -> None:
    complain("ledgerq", why)
    raise typer.Exit(code)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip().lower())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise SettingsError(
            "--expires: {text!r} is not a time such as 90d, 12h or 30m (at most ten years)", text=text[:40]
        )
    return seconds


def _octal(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise SettingsError("--mode: {text!r} is not an octal number such as 600", text=text[:40])
    return int(text, 8)


def main() -> None:
    """Entry point of ``ledgerq``."""
    _read_environment()  # which also names the language
    run_app(app, "ledgerq")


if __name__ == "__main__":
    main()
