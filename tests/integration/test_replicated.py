"""The tests' own PostgreSQL with standbys: what they rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import databases
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from pathlib import Path


def test_a_standby_that_was_cut_off_lacks_what_was_written_since_and_can_be_promoted(workspace: Path) -> None:
    with Replicated(workspace) as pair:
        [standby] = pair.standbys
        databases.execute(pair.primary.url, "CREATE TABLE t (n int)")
        pair.all_have_it()
        standby.follow(None)
        databases.execute(pair.primary.url, "INSERT INTO t VALUES (1)")
        pair.primary.kill()
        assert databases.rows(standby.promote(), "SELECT count(*) FROM t") == [(0,)]
