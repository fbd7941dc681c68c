"""What PostgreSQL's settings and standbys promise, beside what the operator demands."""

from __future__ import annotations

import pytest

from ledgerq_shared.postgres.durability import Durability
from ledgerq_shared.statements.read_replication import ReplicationRow

SYNC = ("one", True, "sync", 0.0, None)
QUORUM = ("two", True, "quorum", 10.0, 0.1)
CATCHING_UP = ("three", False, "quorum", 9e9, 60.0)
ASYNC = ("four", True, "async", 0.0, None)
UNSEEN = ("five", None, None, None, None)


def promised(level: str, names: str, *standbys: tuple[object, ...]) -> Durability:
    return Durability.of([ReplicationRow(level, names, 7, True, *one) for one in standbys or [(None,) * 5]])


@pytest.mark.parametrize(
    ("level", "names", "standbys", "confirming"),
    [
        ("on", "", [], 0),
        ("on", "", [ASYNC], 0),
        ("on", "*", [SYNC], 1),
        ("remote_apply", "*", [SYNC], 1),
        ("on", "*", [], 0),
        ("on", "*", [CATCHING_UP], 0),
        ("on", "one, four", [SYNC, ASYNC], 1),
        ("on", "FIRST 1 (one)", [SYNC], 1),
        ("on", "ANY 1 (two, three)", [QUORUM, QUORUM], 1),
        ("on", "any 2 (two, three)", [QUORUM, QUORUM], 2),
        ("on", "ANY 2 (two, three)", [QUORUM, CATCHING_UP], 1),
        ("on", "2 (one, two)", [SYNC, SYNC], 2),
        ("on", '"2 (odd"', [SYNC], 1),
        ("on", "ANY 2 (*)", [UNSEEN], 2),
        ("remote_write", "*", [SYNC], 0),
        ("local", "*", [SYNC], 0),
        ("off", "ANY 2 (*)", [QUORUM, QUORUM], 0),
    ],
)
def test_as_many_standbys_confirm_as_are_waited_for_and_are_there(
    level: str, names: str, standbys: list[tuple[object, ...]], confirming: int
):
    found = promised(level, names, *standbys)
    assert (found.confirming, found.timeline) == (confirming, 7)
    assert found.lacks(confirming) is None
    line = found.lacks(confirming + 1)
    assert line is not None
    assert line.startswith(f"LEDGERQ_REQUIRE_SYNC={confirming + 1}: ")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("level", "names", "standbys", "says"),
    [
        ("local", "*", [SYNC], "synchronous_commit is 'local'"),
        ("on", "", [ASYNC], "synchronous_standby_names is ''"),
        ("on", "ANY 2 (*)", [QUORUM], "only 1 of the standbys"),
    ],
)
def test_what_lacks_is_named(level: str, names: str, standbys: list[tuple[object, ...]], says: str):
    assert says in str(promised(level, names, *standbys).lacks(2))
