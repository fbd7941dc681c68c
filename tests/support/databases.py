"""A fresh database for each test: cloned from a template that the migrations have built once per run."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import redis

from tests.support.servers import REDIS_DATABASES, locked

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = "ledgerq_template"

#: How a database may sort text: as the server does (the embedded one by "C"), as ICU does, as the system's library does.
COLLATIONS = {
    "": "",
    "icu": "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
    "en_US": "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'en_US.UTF-8'",
}
#: That of this run's databases.
COLLATION = os.environ.get("LEDGERQ_TEST_COLLATION", "")

#: What operators set for a role or a database, all at once: none of it may change anything.
OPERATORS = {
    "lock_timeout": "10ms",
    "statement_timeout": "250ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-5",
}
#: The tests' own questions do not depend on it.
_AS_EVER = (
    "-c client_encoding=UTF8 -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off "
    "-c extra_float_digits=1"
)


def on_server(url: str, database: str) -> str:
    """Return ``url`` with another database name or number."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def migrated_template(folder: Path, postgres_url: str) -> str:
    """Build the template database on first use; return its name."""
    done = folder / "template.done"
    with locked(folder / "template.lock"):
        if not done.exists():
            execute(postgres_url, f"DROP DATABASE IF EXISTS {TEMPLATE}")
            create_named(postgres_url, TEMPLATE, COLLATION)
            migrate(on_server(postgres_url, TEMPLATE))
            done.touch()
    return TEMPLATE


def migrate(database_url: str) -> None:
    """Run the migrations as a user does."""
    subprocess.run(
        [sys.executable, "-m", "ledgerq_shared.migrate", "upgrade"],
        env={**os.environ, "DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1/0"},
        check=True,
        capture_output=True,
    )


def create(postgres_url: str, *, template: str | None = None, collation: str = "") -> str:
    """Make a database of a new name; return its URL. Without a template it is empty, and sorts by ``collation``."""
    name = f"test_{uuid.uuid4().hex}"
    if template is None:
        create_named(postgres_url, name, collation or COLLATION)
    else:
        execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return on_server(postgres_url, name)


def create_named(postgres_url: str, name: str, collation: str) -> None:
    """An empty database that sorts text by ``collation``, a key of :data:`COLLATIONS`."""
    execute(postgres_url, f"CREATE DATABASE {name} {COLLATIONS[collation]}")


def drop(postgres_url: str, url: str) -> None:
    """Drop a database, whoever is still connected to it."""
    name = urlsplit(url).path[1:]
    try:
        execute(postgres_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    except psycopg2.errors.SyntaxError:  # PostgreSQL 12
        execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        execute(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        execute(postgres_url, f"DROP DATABASE {name}")  # waits for them, up to 5 s


def set_for_all(url: str, **settings: str) -> None:
    """What an operator has set for the database; from the next connection on."""
    name = urlsplit(url).path[1:]
    execute(url, "".join(f"ALTER DATABASE {name} SET {key} = '{value}'; " for key, value in settings.items()))


def execute(url: str, sql: str) -> None:
    """Run one statement outside of a transaction."""
    connection = psycopg2.connect(url, options=_AS_EVER)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()


def rows(url: str, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Run one query; return its rows."""
    connection = psycopg2.connect(url, options=_AS_EVER)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())
    finally:
        connection.close()


def take_redis_database(folder: Path, redis_url: str) -> str:
    """Return the URL of an empty numbered database that no other test of this run uses."""
    counter = folder / "redis.counter"
    with locked(folder / "redis.lock"):
        number = int(counter.read_text()) + 1 if counter.exists() else 1
        counter.write_text(str(number))
    url = on_server(redis_url, str(number % REDIS_DATABASES))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
