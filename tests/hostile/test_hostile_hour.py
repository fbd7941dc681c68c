"""The hostile hour, and what must be so at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hostile import figures, hour
from tests.hostile.honest import Honest
from tests.hostile.memory import Memory
from tests.hostile.targets import Composed, MakeRun, memory_limit
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.targets import Target
    from tests.support.stack import Stack

#: A quiet p99 below so many seconds counts as so much. Attackers, API, worker and stores share one machine here, perhaps of
#: two cores: what one of them computes for a moment, the others wait for, and a few milliseconds are doubled by that alone.
_GRAIN = 0.1
_ATTEMPTS = "SELECT id::text, attempt FROM task WHERE id = ANY(%s::uuid[])"
_OPEN = "SELECT count(*) FROM task WHERE id = ANY(%s::uuid[]) AND state <> 'SUCCESS'"


@pytest.fixture
def plan() -> hour.Plan:
    """HOSTILE_MINUTES and HOSTILE_SEED, which `make test-hostile` sets."""
    minutes = float(os.environ.get("HOSTILE_MINUTES") or 0)
    seed = int(os.environ.get("HOSTILE_SEED") or int.from_bytes(os.urandom(3), "big"))
    if not minutes:
        return hour.Plan(quiet=8, hostile=36, stay=13, away=1, between=1.5, waiting=20_000, seed=seed)
    quiet = min(60, minutes * 12)
    return hour.Plan(quiet, minutes * 60 - quiet, stay=25, away=4, between=10, waiting=100_000, seed=seed, is_long=True)


@pytest.fixture
def target(bare_stack: Stack) -> Iterator[Target]:
    """What is attacked: HOSTILE_STACK, `run` or `compose`."""
    folder = Path(tempfile.mkdtemp(prefix="ledgerq-hostile-"))
    folder.chmod(0o755)
    made: Target | None = None
    try:
        made = Composed(folder) if os.environ.get("HOSTILE_STACK") == "compose" else MakeRun(bare_stack, folder)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_hostile_hour_costs_honest_clients_nothing_but_time(target: Target, plan: hour.Plan):
    hour.prepare(target, plan)
    before = target.processes()
    with Memory(target.processes) as memory, Honest(target.url, target.key) as honest:
        course = hour.run(target, plan)
    ids = list(honest.accepted)
    wait.until(
        lambda: databases.rows(target.database_url, _OPEN, (ids,)) == [(0,)],
        180, interval=0.5, what=lambda: f"all that was accepted has succeeded; {target.logs()}",
    )  # fmt: skip
    ran = Counter(target.journal().split())
    attempts = dict(databases.rows(target.database_url, _ATTEMPTS, (ids,)))
    again = sum(ran[one] > 1 for one in ids)
    parts = figures.divide(honest.samples, course)
    more = {
        "accepted with 202": len(ids),
        "of them lost": len(ids) - len(attempts),
        "of them run more than once": again,
        "followed to their end over HTTP": honest.followed,
        "disk": target.disk.missing or "filled and freed",
        "seed": plan.seed,
    }
    print(f"\n{figures.table(target, course, parts, memory, more)}")

    wrong = {name: [one for one in tally if one.startswith("WRONG")] for name, tally in course.tallies.items()}
    assert not any(wrong.values()), wrong
    assert not honest.wrong, honest.wrong[:10]
    assert honest.followed
    for part in (parts.quiet, parts.hostile, parts.without_postgres, parts.without_redis):
        assert not part.rude, part.rude
    assert not parts.quiet.refused
    assert not parts.hostile.refused, "an attack keeps nobody out while both stores are there"
    assert not parts.without_redis.refused, "tasks are accepted without Redis"
    assert target.processes() == before, "the API is the same process as at the beginning"
    assert memory.samples
    assert max(memory.most.values()) < memory_limit()
    # Nothing lost, and nothing done more often than the ledger says.
    assert set(attempts) == set(ids)
    assert not [one for one in ids if not ran[one]]
    assert not [one for one in ids if ran[one] > attempts[one]]
    ledger_checks.assert_sound(target.database_url)
    if plan.is_long:  # the short form has too few submits for a p99: it is printed
        quiet, hostile = (figures.share(part.accepted, 0.99) for part in (parts.quiet, parts.hostile))
        assert hostile <= 2 * max(quiet, _GRAIN), (
            f"p99 {1000 * hostile:.0f} ms under attack, {1000 * quiet:.0f} in quiet"
        )
