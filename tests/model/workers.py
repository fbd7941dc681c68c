"""What workers do, and what becomes of those that die: their statements, without processes."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import find_cancel_requests
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_shared.states import FINAL, State
from tests.model import real_ledger
from tests.model.expected import CLAIM, QUARANTINE_AFTER, Task
from tests.model.machine import ANY, QUEUES, Node, any_claimed
from tests.model.people import People
from tests.model.real_ledger import LATER
from tests.support.api import ANYTHING

_ENDS = st.sampled_from(sorted(FINAL))


class Workers(People):
    """Rules of workers."""

    @rule(which=st.integers(0, 1), slot=st.integers(0, 1), queue=QUEUES, limit=st.sampled_from([100, 3, 1]))
    def claims(self, which: int, slot: int, queue: str, limit: int) -> None:
        worker = self.nodes[which]
        given = self.real.claim(worker.id, slot, queue, limit)
        possible = [] if worker.is_dead else self.model.claimable(queue)
        if not any(task.alone for task in possible):
            assert len(given) == min(limit, len(possible))
        assert bool(given) == bool(possible)
        assert [task.id for task in given] == [task.id for task in possible[: len(given)]], "in their order"
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

    @precondition(any_claimed)
    @rule(pick=ANY)
    def begins(self, pick: int) -> None:
        task, no = self.claimed(pick)
        if task.state is not State.STARTED:
            assert self.real.do(real_ledger.begun(task, no)) == [(task.id, task.is_cancelled)]
            assert self.model.begin(task)

    @precondition(any_claimed)
    @rule(pick=ANY)
    def reports(self, pick: int) -> None:
        task, no = self.claimed(pick)
        runs = task.state is State.STARTED
        assert self.real.do(real_ledger.progressed(task, no)) == ([(task.id, task.is_cancelled)] if runs else [])
        assert bool(self.real.do(real_ledger.logged(task, no))) == runs

    @precondition(any_claimed)
    @rule(picks=st.lists(ANY, min_size=1, max_size=4), state=_ENDS)
    def ends(self, picks: list[int], state: State) -> None:
        chosen = list({task.id: (task, no) for task, no in map(self.claimed, picks)}.values())
        rows = self.real.do(real_ledger.ended(chosen, state))
        assert {row[0] for row in rows} == {task.id for task, _ in chosen}
        for task, _ in chosen:
            self.model.end(task, state, has_run=True)

    @precondition(any_claimed)
    @rule(pick=ANY)
    def ends_unbegun(self, pick: int) -> None:
        task, no = self.claimed(pick)
        if task.state is not State.STARTED:
            assert self.real.do(real_ledger.ended([(task, no)], State.REVOKED, has_run=False))
            self.model.end(task, State.REVOKED)

    @precondition(any_claimed)
    @rule(pick=ANY, state=st.sampled_from([State.FAILURE, State.REVOKED]))
    def is_ended_from_outside(self, pick: int, state: State) -> None:
        task, no = self.claimed(pick)
        assert self.real.do(real_ledger.ended_from_outside(task, no, state))
        self.model.end(task, state, has_run=True)

    @precondition(any_claimed)
    @rule(
        pick=ANY,
        state=st.sampled_from([State.RETRY, State.RETRY, State.PENDING]),
        queue=QUEUES,
        delay=st.sampled_from([None, 0.0, LATER]),
    )
    def goes_on_later(self, pick: int, state: State, queue: str, delay: float | None) -> None:
        task, no = self.claimed(pick)
        assert self.real.go_on(real_ledger.next_leg(task, no, state, queue, delay))
        self.model.goes_on(task, state, queue, waits=bool(delay))

    @precondition(any_claimed)
    @rule(picks=st.lists(ANY, min_size=1, max_size=4))
    def hands_back(self, picks: list[int]) -> None:
        chosen = {task.id: no for task, no in map(self.claimed, picks) if task.state is not State.STARTED}
        if chosen:
            assert self.real.hand_back(chosen) == set(chosen)
            for task_id in chosen:
                self.model.hand_back(self.model.tasks[task_id])

    @precondition(any_claimed)
    @rule(pick=ANY, terminate=st.booleans())
    def a_hand_back_waits_for_a_cancel(self, pick: int, terminate: bool) -> None:
        task, no = self.claimed(pick)
        if task.state is not State.STARTED:
            assert self.real.hand_back_beside_a_cancel(task.id, no, terminate=terminate) == {task.id}
            assert self.model.cancel(task) is task.state
            self.model.hand_back(task)

    @precondition(lambda self: bool(self.issued))
    @rule(pick=ANY, state=_ENDS, says_so=st.booleans())
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

    @rule(queue=QUEUES, which=st.integers(0, 1), slot=st.integers(0, 1), state=_ENDS)
    def comes_back_by_another_claim(self, queue: str, which: int, slot: int, state: State) -> None:
        """The claim that it left lives on with another task, and it runs again: only the claim's list tells them apart."""
        self.pauses(queue, False)
        self.living_node(which)
        task, other = (self._submitted_to(queue) for _ in range(2))
        self.claims(which, slot, queue, 100)
        no = task.claim_no
        if no is None or no != other.claim_no:
            return  # a suspect was before them
        assert self.real.hand_back({task.id: no}) == {task.id}
        self.model.hand_back(task)
        self.claims(which, slot, queue, 100)
        if task.claim_no is not None:
            assert self.real.do(real_ledger.begun(task, task.claim_no))
            self.model.begin(task)
            self._is_refused(task, no, state)

    @rule(which=st.integers(0, 1), is_noticed=st.booleans())
    def loses_its_lease(self, which: int, is_noticed: bool) -> None:
        self.real.sql(
            "UPDATE worker SET lease_until = now() - interval '1 second' WHERE id = %s", str(self.nodes[which].id)
        )
        self.nodes[which].is_lost = True
        if is_noticed:
            self.maintenance_reaps()

    @rule(which=st.integers(0, 1))
    def renews_its_lease(self, which: int) -> None:
        worker = self.nodes[which]
        [(is_renewed, _)] = self.real.do(renew_lease(worker_id=worker.id, lease=LATER, stopping=False))
        assert is_renewed == (not worker.is_dead)
        asked = (
            {task_id for _, task_id, _ in self.real.do(find_cancel_requests(worker_id=worker.id))}
            if is_renewed
            else set()
        )
        assert asked == {task.id for task in self._held_by(worker) if task.is_cancelled}
        worker.is_lost = False
        if worker.is_dead:
            self.nodes[which] = Node(self.real.register())

    @rule()
    def maintenance_reaps(self) -> None:
        self.real.reap()
        for worker in self.nodes:
            if worker.is_lost and not worker.is_dead:
                worker.is_dead = True
                self._recover(worker, None, None, charge=True)

    @rule(which=st.integers(0, 1), slot=st.integers(0, 1), ran=st.lists(ANY, max_size=2), charge=st.booleans())
    def slot_dies(self, which: int, slot: int, ran: list[int], charge: bool) -> None:
        worker = self.nodes[which]
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

    @rule(queue=QUEUES, which=st.integers(0, 1), dies=st.booleans())
    def a_suspect_comes_back_before_it_begins(self, queue: str, which: int, dies: bool) -> None:
        """A node with several tasks is lost, and nobody knows which it was; the next holder of one does not begin it."""
        self.pauses(queue, False)
        self.living_node(which)
        for _ in range(2):
            self._submitted_to(queue)
        self.claims(which, 0, queue, 100)
        self.loses_its_lease(which, True)
        node = self.living_node(1 - which)
        self.claims(1 - which, 0, queue, 100)
        if dies:
            self.slot_dies(1 - which, 0, [], True)
        for task in self._held_by(node):
            if task.alone and task.state is not State.STARTED:
                assert self.real.hand_back({task.id: task.claim_no or 0}) == {task.id}
                self.model.hand_back(task)

    @rule(queue=QUEUES, which=st.integers(0, 1), slot=st.integers(0, 1), state=_ENDS)
    def is_run_again_when_it_has_ended(self, queue: str, which: int, slot: int, state: State) -> None:
        self.pauses(queue, False)
        self.living_node(which)
        task = self._submitted_to(queue)
        self.claims(which, slot, queue, 100)
        if task.claim_no is not None:
            assert self.real.do(real_ledger.ended([(task, task.claim_no)], state)) == [(task.id,)]
            self.model.end(task, state, has_run=True)
            self.retries(task)

    @rule(queue=QUEUES, which=st.integers(0, 1), slot=st.integers(0, 1))
    def a_retried_one_is_handed_back(self, queue: str, which: int, slot: int) -> None:
        """It has its place behind what came between its first submit and the retry."""
        self.pauses(queue, False)
        self.living_node(which)
        task = self._submitted_to(queue)
        self.claims(which, slot, queue, 100)
        if task.claim_no is None:
            return  # a suspect was before it
        assert self.real.do(real_ledger.ended([(task, task.claim_no)], State.FAILURE))
        self.model.end(task, State.FAILURE, has_run=True)
        self._submitted_to(queue)
        self.retries(task)
        self.claims(which, slot, queue, 100)
        held = {one.id: one.claim_no for one in self.in_place(CLAIM) if one.claim_no == task.claim_no}
        if task.claim_no is not None:
            assert self.real.hand_back(dict.fromkeys(held, task.claim_no)) == set(held)
            for one in held:
                self.model.hand_back(self.model.tasks[one])
        self.claims(which, slot, queue, 100)

    def _submitted_to(self, queue: str) -> Task:
        answer = self.real.api.post("/tasks/submit", {"task_type": ANYTHING, "queue": queue, "priority": 9})
        task = Task(answer.json()["task_id"], queue, 9)
        self.model.next_moment()
        self.model.submit(task, "reject")
        return task

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

    def _held_by(self, worker: Node) -> list[Task]:
        return [task for task in self.in_place(CLAIM) if task.claim_no in worker.claims]

    def _slot(self, worker: Node, task: Task) -> int:
        assert task.claim_no is not None
        return worker.slots[task.claim_no]

    def _recover(self, worker: Node, slot: int | None, suspects: set[str] | None, *, charge: bool) -> None:
        lost = [task for task in self._held_by(worker) if slot is None or self._slot(worker, task) == slot]
        for task in lost:
            self.model.recover(
                task, is_suspect=task.id in (suspects or ()), is_known=suspects is not None, charge=charge,
            )  # fmt: skip
