"""The models say what the migrations make."""

from __future__ import annotations

import re

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects.postgresql import ARRAY

from ledgerq_shared.models import tables
from tests.support import databases

_PARTITION = "task_event_"

CHECKS = """
SELECT c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
WHERE c.contype = 'c' AND NOT t.relispartition AND t.relnamespace = 'public'::regnamespace
"""

COLLATIONS = """
SELECT t.relname, a.attname, l.collname FROM pg_attribute a
JOIN pg_class t ON t.oid = a.attrelid JOIN pg_collation l ON l.oid = a.attcollation
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
  AND a.attnum > 0 AND t.relname <> 'alembic_version'
"""

OPTIONS = "SELECT reloptions FROM pg_class WHERE relname = %s AND relnamespace = 'public'::regnamespace"


@pytest.fixture
def connection(database: str):
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://" + database.split("://")[1], poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection


def test_the_migrated_database_has_the_models_tables_columns_types_and_indexes(
    connection: sqlalchemy.Connection,
):
    def is_ours(_thing: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and str(name).startswith(_PARTITION))

    options = {"compare_type": True, "include_object": is_ours}
    assert compare_metadata(MigrationContext.configure(connection, opts=options), tables()) == []


def test_the_migrated_database_has_the_models_defaults(connection: sqlalchemy.Connection):
    for table in tables().tables.values():
        found = {
            column["name"]: _without_casts(column["default"])
            for column in sqlalchemy.inspect(connection).get_columns(table.name)
            if "computed" not in column and "identity" not in column
        }
        in_models = {
            column.name: _rendered(column, connection)
            for column in table.columns
            if column.computed is None and column.identity is None
        }
        assert found == in_models, table.name


def test_the_migrated_database_has_the_models_rules(database: str):
    in_models = {
        constraint.name
        for table in tables().tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sqlalchemy.CheckConstraint)
    }
    assert {name for (name,) in databases.rows(database, CHECKS)} == in_models


def test_names_and_keys_sort_by_their_bytes_where_the_models_say_so(database: str):
    found = {(table, column): collation for table, column, collation in databases.rows(database, COLLATIONS)}
    in_models = {
        (table.name, column.name): kind.collation or "default"
        for table in tables().tables.values()
        for column in table.columns
        if isinstance(kind := _element(column.type), sqlalchemy.Text)
    }
    assert found == in_models


def test_a_generated_column_is_computed_as_the_model_says(connection: sqlalchemy.Connection):
    columns = sqlalchemy.inspect(connection).get_columns("task")
    (found,) = [column["computed"] for column in columns if column["name"] == "exception_state"]
    assert found["persisted"]
    assert "'RETRY'" in found["sqltext"]
    assert "'FAILURE'" in found["sqltext"]
    assert "'REVOKED'" in found["sqltext"]


def test_pages_keep_room_for_updates_where_the_models_say_so(database: str):
    for name, table in tables().tables.items():
        wanted = table.dialect_options["postgresql"]["with"] or {}
        ((found,),) = databases.rows(database, OPTIONS, (name,))
        fill = [option for option in (found or []) if option.startswith("fillfactor")]
        assert fill == [f"fillfactor={value}" for value in wanted.values()], name


def test_every_column_says_what_it_means():
    for table in tables().tables.values():
        for column in table.columns:
            assert _meaning(table, column.name) or column.doc, f"{table.name}.{column.name}"


def test_every_nullable_column_says_what_null_means():
    for table in tables().tables.values():
        for column in table.columns:
            if column.nullable:
                assert "null" in _meaning(table, column.name), f"{table.name}.{column.name}"


def _meaning(table: sqlalchemy.Table, column: str) -> str:
    from ledgerq_shared import models

    for model in vars(models).values():
        if getattr(model, "__table__", None) is table:
            name = {"metadata": "metadata_"}.get(column, column)
            return str(model.model_fields[name].description or "")
    return ""


def _rendered(column: sqlalchemy.Column[object], connection: sqlalchemy.Connection) -> str | None:
    if column.server_default is None:
        return None
    return _without_casts(str(column.server_default.arg.compile(connection)))


def _without_casts(default: str | None) -> str | None:
    return None if default is None else re.sub(r"::[a-z]+(\[\])?", "", default)


def _element(kind: object) -> object:
    return kind.item_type if isinstance(kind, ARRAY) else kind
