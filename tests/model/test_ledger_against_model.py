"""Whatever people, workers and maintenance do, in any order: the ledger is what the model says, and sound.

People call a real API over HTTP; workers and maintenance are their statements; time passes in the database. After every step
each task is where the model has it, and `ledger_checks` finds nothing: counters equal a full count, histories are legal and
have one end, nothing final waits anywhere. Derandomized; `make test-chaos` tries more, with a seed of its own.
"""

from __future__ import annotations

import os

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from ledgerq_api.tasks import actions
from ledgerq_shared.statements.dispatch import promote_due
from ledgerq_shared.statements.expire import expire
from ledgerq_shared.statements.fold import fold_counts
from tests.model.expected import HELD
from tests.model.machine import ANY, any_task
from tests.model.real_ledger import RealLedger
from tests.model.workers import Workers
from tests.support import api

#: `make test-chaos` goes deeper: about a minute for each of its minutes.
_MINUTES = float(os.environ.get("CHAOS_MINUTES") or 0)
_EXAMPLES = 25 + int(60 * _MINUTES)
_STEPS = 40


class LedgerMachine(Workers):
    """And maintenance, and time."""

    @rule(at_least=st.sampled_from([1, 10]))
    def maintenance_goes_round(self, at_least: int) -> None:
        assert len(self.real.do(promote_due(limit=1000))) == self.model.promote()
        assert len(self.real.do(expire(limit=1000))) == self.model.expire()
        self.real.do(fold_counts(at_least=at_least))

    @precondition(lambda self: bool(self.in_place(HELD)))
    @rule(pick=ANY)
    def time_comes(self, pick: int) -> None:
        held = self.in_place(HELD)
        task = held[pick % len(held)]
        came = "WITH came AS (UPDATE held SET until = now() WHERE task_id = %s) UPDATE task SET run_at = now() WHERE id = %s"
        self.real.sql(came, task.id, task.id)
        self.model.next_moment()
        task.is_due, task.place_in_queue = True, self.model.moments

    @precondition(any_task)
    @rule(pick=ANY)
    def expiry_passes(self, pick: int) -> None:
        task = self.any_task(pick)
        if task.expired is False:
            for table, column in (("task", "id"), ("ready", "task_id"), ("held", "task_id")):
                self.real.sql(f"UPDATE {table} SET expires_at = now() - interval '1 s' WHERE {column} = %s", task.id)
            task.expired = True


def test_the_ledger_does_what_the_model_says_and_stays_sound(
    database: str, redis_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "TOLD_WITHIN", 0.0)  # these workers do nothing while a cancel waits for them
    seed = os.environ.get("CHAOS_SEED") or (int.from_bytes(os.urandom(3), "big") if _MINUTES else None)
    print(f"seed: {seed}")
    api.register(database, *api.CATALOGUE)
    # Each example empties the tables, which is no failover.
    with api.serve(database, redis_database, resend_seconds=0) as running:
        real = RealLedger(database, running)
        machine = type("LedgerMachineHere", (LedgerMachine,), {"real": real})
        if seed is not None:
            machine = hypothesis.seed(int(seed))(machine)
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                machine,
                settings=hypothesis.settings(
                    max_examples=_EXAMPLES,
                    stateful_step_count=_STEPS,
                    derandomize=seed is None,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(hypothesis.HealthCheck),
                ),
            )
        finally:
            real.close()
