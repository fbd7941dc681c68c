"""Which tables a service works on: those of its own release, and later ones."""

from __future__ import annotations

import pytest

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.revision import check_revision, needed
from ledgerq_shared.settings import SettingsError
from tests.support import databases

_NOW = "UPDATE alembic_version SET version_num = '{:04}'"


def test_tables_older_than_the_code_are_refused_and_later_ones_are_fine(database, empty_database):
    pool = Database(database, application_name="test")
    check_revision(pool)
    databases.execute(database, _NOW.format(int(needed()) + 1))
    check_revision(pool)
    databases.execute(database, _NOW.format(int(needed()) - 1))
    with pytest.raises(SettingsError, match="older than this release"):
        check_revision(pool)
    pool.close()
    empty = Database(empty_database, application_name="test")
    with pytest.raises(SettingsError, match="no tables yet"):
        check_revision(empty)
    empty.close()
