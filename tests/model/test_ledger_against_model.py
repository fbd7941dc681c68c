"""Whatever API, workers, maintenance and people do, in any order: the ledger is what the model says, and sound.

After every step each task is where the model has it, and `ledger_checks` finds nothing: counters equal a full count,
histories are legal and have one end, nothing final waits anywhere. Derandomized; `make test-chaos` tries more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ledgerq_api.control.cancelling import cancel
from ledgerq_shared.database import execute
from ledgerq_shared.errors import DuplicateTask, TaskIsFinal
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.statements import record
from ledgerq_shared.statements.dispatch import expire, fold_counts, promote_due
from ledgerq_shared.statements.queues import set_paused
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.resubmit import resubmit
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.statements.unique import retake_key
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_shared.states import FINAL, State
from ledgerq_shared.submitting import Existing, submit
from tests.model import real_ledger
from tests.model.expected import CLAIM, HELD, QUARANTINE_AFTER, READY, Model, Task
from tests.model.real_ledger import LATER, RealLedger
from tests.support import databases

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

#: `make test-chaos` goes deeper: about a minute for each of its minutes.
_EXAMPLES = 30 + int(25 * float(os.environ.get("CHAOS_MINUTES") or 0))
_STEPS = 40
_ANY = st.integers(0, 10_000)
_QUEUES = st.sampled_from(["default", "documents"])
_FINAL = st.sampled_from(sorted(FINAL))
_NEW = st.fixed_dictionaries(
    {
        "queue": _QUEUES,
        "priority": st.sampled_from([5, 5, 9]),
        "key": st.sampled_from([None, "k1", "k2"]),
        "policy": st.sampled_from(["return_existing", "reject", "replace"]),
        "waits": st.sampled_from([False, False, True]),
        "expires": st.booleans(),
        "runs_once": st.sampled_from([False, False, True]),
    }
)


@dataclass(eq=False)
class _Worker:
    id: UUID
    is_lost: bool = False
    is_dead: bool = False
    #: Claim number → ids of the tasks that it was given, and its slot.
    claims: dict[int, set[str]] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)


def _any_claimed(machine: LedgerMachine) -> bool:
    return bool(machine.in_place(CLAIM))


def _any_task(machine: LedgerMachine) -> bool:
    return bool(machine.model.tasks)


class LedgerMachine(RuleBasedStateMachine):
    """Every rule does one thing to the ledger and to the model, and compares the answers."""

    #: Set by the test.
    postgres_url: str
    template: str

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.real = RealLedger(databases.create(self.postgres_url, template=self.template))
        self.workers = [_Worker(self.real.register()) for _ in range(2)]
        #: Every task that was ever claimed, with the claim's number.
        self.issued: list[tuple[str, int]] = []

    def teardown(self) -> None:
        self.real.close()
        databases.drop(self.postgres_url, self.real.url)

    def in_place(self, *places: str) -> list[Task]:
        return [task for task in self.model.tasks.values() if task.place in places]

    def claimed(self, pick: int) -> tuple[Task, int]:
        tasks = self.in_place(CLAIM)
        task = tasks[pick % len(tasks)]
        assert task.claim_no is not None
        return task, task.claim_no

    def any_task(self, pick: int) -> Task:
        return list(self.model.tasks.values())[pick % len(self.model.tasks)]

    # People and programs that use the API.

    @rule(news=st.lists(_NEW, min_size=1, max_size=6))
    def submits(self, news: list[dict[str, Any]]) -> None:
        tasks = [_new_task(new) for new in news]
        outcome = self.real.inside(lambda cursor: submit(cursor, tasks))
        for task, new in zip(tasks, news, strict=True):
            other = outcome.others.get(task.id)
            said = "refused" if isinstance(other, DuplicateTask) else str(other.id) if other else "accepted"
            assert isinstance(other, (Existing, DuplicateTask, type(None)))
            assert said == self.model.submit(_expected(str(task.id), new), new["policy"])

    @precondition(_any_task)
    @rule(pick=_ANY, terminate=st.booleans())
    def cancels(self, pick: int, terminate: bool) -> None:
        task = self.any_task(pick)
        answer = None
        with suppress(TaskIsFinal):
            answer = self.real.inside(lambda cursor: cancel(cursor, task.id, actor="api", terminate=terminate)).state
        assert answer == self.model.cancel(task)

    @precondition(_any_task)
    @rule(pick=_ANY)
    def runs_again(self, pick: int) -> None:
        task = self.any_task(pick)

        def work(cursor: Any) -> bool:
            rows = execute(cursor, resubmit(task.id, actor="api"))
            if rows and (holders := execute(cursor, retake_key(task.id))) and holders[0][0] != task.id:
                raise DuplicateTask
            return bool(rows)

        answer = False
        with suppress(DuplicateTask):
            answer = self.real.inside(work)
        assert answer == self.model.resubmit(task)

    @rule(queue=_QUEUES, paused=st.sampled_from([True, False, False]))
    def pauses(self, queue: str, paused: bool) -> None:
        self.real.do(set_paused(queue, paused=paused, make=True))
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    # Workers.

    @rule(which=st.integers(0, 1), slot=st.integers(0, 1), queue=_QUEUES, limit=st.sampled_from([100, 3, 1]))
    def claims(self, which: int, slot: int, queue: str, limit: int) -> None:
        worker = self.workers[which]
        given = self.real.claim(worker.id, slot, queue, limit)
        possible = [] if worker.is_dead else self.model.claimable(queue)
        if not any(task.alone for task in possible):
            assert len(given) == min(limit, len(possible))
        assert bool(given) == bool(possible)
        assert [task.priority for task in given] == [task.priority for task in possible[: len(given)]]
        assert len(given) == 1 or not any(task.is_alone for task in given)
        for one in given:
            task = self.model.tasks[one.id]
            assert task in possible
            assert (one.state, one.is_expired) == (task.state, bool(task.expired))
            assert (one.is_alone, one.attempt) == (task.alone, task.attempt)
            self.model.claimed(task, one.claim_no)
            self.issued.append((one.id, one.claim_no))
            worker.claims.setdefault(one.claim_no, set()).add(one.id)
            worker.slots[one.claim_no] = slot

    @precondition(_any_claimed)
    @rule(pick=_ANY)
    def begins(self, pick: int) -> None:
        task, no = self.claimed(pick)
        if task.state is not State.STARTED:
            assert self.real.do(real_ledger.begun(task, no)) == [(task.id, task.is_cancelled)]
            assert self.model.begin(task)

    @precondition(_any_claimed)
    @rule(pick=_ANY)
    def reports(self, pick: int) -> None:
        task, no = self.claimed(pick)
        runs = task.state is State.STARTED
        assert self.real.do(real_ledger.progressed(task, no)) == ([(task.id, task.is_cancelled)] if runs else [])
        assert bool(self.real.do(real_ledger.logged(task, no))) == runs

    @precondition(_any_claimed)
    @rule(picks=st.lists(_ANY, min_size=1, max_size=4), state=_FINAL)
    def ends(self, picks: list[int], state: State) -> None:
        chosen = list({task.id: (task, no) for task, no in map(self.claimed, picks)}.values())
        rows = self.real.do(real_ledger.ended(chosen, state))
        assert {row[0] for row in rows} == {task.id for task, _ in chosen}
        for task, _ in chosen:
            self.model.end(task, state, has_run=True)

    @precondition(_any_claimed)
    @rule(pick=_ANY)
    def ends_unbegun(self, pick: int) -> None:
        task, no = self.claimed(pick)
        if task.state is not State.STARTED:
            assert self.real.do(real_ledger.ended([(task, no)], State.REVOKED, has_run=False))
            self.model.end(task, State.REVOKED)

    @precondition(_any_claimed)
    @rule(pick=_ANY, state=st.sampled_from([State.FAILURE, State.REVOKED]))
    def is_ended_from_outside(self, pick: int, state: State) -> None:
        task, no = self.claimed(pick)
        assert self.real.do(real_ledger.ended_from_outside(task, no, state))
        self.model.end(task, state, has_run=True)

    @precondition(_any_claimed)
    @rule(
        pick=_ANY,
        state=st.sampled_from([State.RETRY, State.RETRY, State.PENDING]),
        queue=_QUEUES,
        delay=st.sampled_from([None, 0.0, LATER]),
    )
    def goes_on_later(self, pick: int, state: State, queue: str, delay: float | None) -> None:
        task, no = self.claimed(pick)
        assert self.real.go_on(real_ledger.next_leg(task, no, state, queue, delay))
        self.model.goes_on(task, state, queue, waits=bool(delay))

    @precondition(_any_claimed)
    @rule(picks=st.lists(_ANY, min_size=1, max_size=4))
    def hands_back(self, picks: list[int]) -> None:
        chosen = {task.id: no for task, no in map(self.claimed, picks) if task.state is not State.STARTED}
        if chosen:
            assert self.real.hand_back(chosen) == set(chosen)
            for task_id in chosen:
                self.model.hand_back(self.model.tasks[task_id])

    @precondition(lambda self: bool(self.issued))
    @rule(pick=_ANY, state=_FINAL, says_so=st.booleans())
    def writes_too_late(self, pick: int, state: State, says_so: bool) -> None:
        """A claim that no longer lists the task: whatever else fits, nothing is written."""
        living = {task.claim_no for task in self.in_place(CLAIM)}
        late = [pair for pair in self.issued if self.model.tasks[pair[0]].claim_no != pair[1]]
        # The harder half: the claim is still there and lists other tasks.
        late = [pair for pair in late if pair[1] in living] or late
        if not late:
            return
        task_id, no = late[pick % len(late)]
        task = self.model.tasks[task_id]
        self._is_refused(task, no, state)
        if says_so:
            assert self.real.do(record.refuse([(task.id, no, str(state))], worker="zombie"))

    @precondition(_any_claimed)
    @rule(pick=_ANY, which=st.integers(0, 1), state=_FINAL)
    def comes_back_by_another_claim(self, pick: int, which: int, state: State) -> None:
        """The claim that it left lives on with other tasks, and it runs again: only the claim's list tells them apart."""
        task, no = self.claimed(pick)
        self.pauses(task.queue, False)
        if task.state is State.STARTED or task.is_cancelled:
            return
        assert self.real.hand_back({task.id: no}) == {task.id}
        self.model.hand_back(task)
        self.claims(which, 0, task.queue, 100)
        if task.claim_no is not None:
            assert self.real.do(real_ledger.begun(task, task.claim_no))
            self.model.begin(task)
            self._is_refused(task, no, state)

    # Deaths.

    @rule(which=st.integers(0, 1))
    def loses_its_lease(self, which: int) -> None:
        self.real.sql(
            "UPDATE worker SET lease_until = now() - interval '1 second' WHERE id = %s", str(self.workers[which].id)
        )
        self.workers[which].is_lost = True

    @rule(which=st.integers(0, 1))
    def renews_its_lease(self, which: int) -> None:
        worker = self.workers[which]
        rows = self.real.do(renew_lease(worker_id=worker.id, lease=LATER, stopping=False))
        assert bool(rows) == (not worker.is_dead)
        asked = {row[1] for row in rows if row[1] is not None}
        assert asked == {task.id for task in self._held_by(worker) if task.is_cancelled}
        worker.is_lost = False
        if worker.is_dead:
            self.workers[which] = _Worker(self.real.register())

    @rule()
    def maintenance_reaps(self) -> None:
        self.real.reap()
        for worker in self.workers:
            if worker.is_lost and not worker.is_dead:
                worker.is_dead = True
                self._recover(worker, None, None, charge=True)

    @rule(which=st.integers(0, 1), slot=st.integers(0, 1), ran=st.lists(_ANY, max_size=2), charge=st.booleans())
    def slot_dies(self, which: int, slot: int, ran: list[int], charge: bool) -> None:
        worker = self.workers[which]
        held = [task for task in self._held_by(worker) if self._slot(worker, task) == slot]
        suspects = {held[pick % len(held)].id for pick in ran} if held else set()
        rows = self.real.do(
            recover_claims(
                worker_id=worker.id, slot=slot, suspects=suspects, charge=charge, quarantine_after=QUARANTINE_AFTER,
                why="SIGKILL", actor="test",
            )
        )  # fmt: skip
        assert {row[0] for row in rows} == {task.id for task in held}
        self._recover(worker, slot, suspects, charge=charge)

    # Maintenance, and time.

    @rule()
    def maintenance_promotes(self) -> None:
        assert len(self.real.do(promote_due(limit=1000))) == self.model.promote()

    @rule()
    def maintenance_expires(self) -> None:
        assert len(self.real.do(expire(limit=1000))) == self.model.expire()

    @rule(at_least=st.sampled_from([1, 10]))
    def maintenance_folds_the_counts(self, at_least: int) -> None:
        self.real.do(fold_counts(at_least=at_least))

    @precondition(lambda self: bool(self.in_place(HELD)))
    @rule(pick=_ANY)
    def time_comes(self, pick: int) -> None:
        held = self.in_place(HELD)
        task = held[pick % len(held)]
        self.real.sql("UPDATE held SET until = now() - interval '1 second' WHERE task_id = %s", task.id)
        self.real.sql("UPDATE task SET run_at = now() - interval '1 second' WHERE id = %s", task.id)
        task.is_due = True

    @precondition(_any_task)
    @rule(pick=_ANY)
    def expiry_passes(self, pick: int) -> None:
        task = self.any_task(pick)
        if task.expired is False:
            for table, column in (("task", "id"), ("ready", "task_id"), ("held", "task_id")):
                self.real.sql(f"UPDATE {table} SET expires_at = now() - interval '1 s' WHERE {column} = %s", task.id)
            task.expired = True

    # What must always hold.

    @invariant()
    def ledger_is_as_expected(self) -> None:
        assert self.real.seen() == {task.id: task.seen() for task in self.model.tasks.values()}
        assert self.real.keys() == self.model.keys

    @invariant()
    def ledger_is_sound(self) -> None:
        assert self.real.problems() == []

    def _is_refused(self, task: Task, no: int, state: State) -> None:
        for statement in (
            real_ledger.begun(task, no),
            real_ledger.progressed(task, no),
            real_ledger.logged(task, no),
            real_ledger.ended([(task, no)], state),
            real_ledger.ended_from_outside(task, no, State.FAILURE),
        ):
            assert self.real.do(statement) == []
        assert not self.real.go_on(real_ledger.next_leg(task, no, State.RETRY, task.queue, None))
        assert self.real.hand_back({task.id: no}) == set()

    def _held_by(self, worker: _Worker) -> list[Task]:
        return [task for task in self.in_place(CLAIM) if task.claim_no in worker.claims]

    def _slot(self, worker: _Worker, task: Task) -> int:
        assert task.claim_no is not None
        return worker.slots[task.claim_no]

    def _recover(self, worker: _Worker, slot: int | None, suspects: set[str] | None, *, charge: bool) -> None:
        lost = [task for task in self._held_by(worker) if slot is None or self._slot(worker, task) == slot]
        sizes = {no: sum(task.claim_no == no for task in lost) for no in worker.claims}
        for task, size in [(task, sizes[task.claim_no]) for task in lost if task.claim_no is not None]:
            self.model.recover(
                task, is_suspect=task.id in (suspects or ()), is_known=suspects is not None, is_single=size == 1,
                charge=charge,
            )  # fmt: skip


def _new_task(new: dict[str, Any]) -> NewTask:
    options = NewTaskOptions(
        countdown=LATER if new["waits"] else None,
        expires_in=2 * LATER if new["expires"] else None,
        on_worker_lost="fail" if new["runs_once"] else None,
        unique_key=new["key"],
        unique_policy=new["policy"] if new["key"] else None,
    )
    return NewTask(new_task_id(), "demo.anything", new["queue"], "{}", priority=new["priority"], options=options)


def _expected(task_id: str, new: dict[str, Any]) -> Task:
    return Task(
        task_id, new["queue"], new["priority"], new["key"], new["runs_once"], False if new["expires"] else None,
        place=HELD if new["waits"] else READY,
    )  # fmt: skip


def test_the_ledger_does_what_the_model_says_and_stays_sound(run_folder: Path, postgres_url: str) -> None:
    machine = type(
        "LedgerMachineHere",
        (LedgerMachine,),
        {"postgres_url": postgres_url, "template": databases.migrated_template(run_folder, postgres_url)},
    )
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=hypothesis.settings(
            max_examples=_EXAMPLES,
            stateful_step_count=_STEPS,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
