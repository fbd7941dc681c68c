"""The state machine: what every part of it knows, and what must hold after every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.model.expected import CLAIM, Model, Task

if TYPE_CHECKING:
    from uuid import UUID

    from tests.model.real_ledger import RealLedger

ANY = st.integers(0, 10_000)
#: The second is a key of Celery's own in Redis, of another kind than a list.
QUEUE_NAMES = ("default", "_kombu.binding.default")
QUEUES = st.sampled_from(QUEUE_NAMES)


@dataclass(eq=False)
class Node:
    """A worker that exists only in the ledger."""

    id: UUID
    is_lost: bool = False
    is_dead: bool = False
    #: Claim number → ids of the tasks that it was given, and its slot.
    claims: dict[int, set[str]] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)


def any_claimed(machine: Machine) -> bool:
    """Precondition: a worker has some task."""
    return bool(machine.in_place(CLAIM))


def any_task(machine: Machine) -> bool:
    """Precondition: there is some task."""
    return bool(machine.model.tasks)


class Machine(RuleBasedStateMachine):
    """Every rule does one thing to the ledger and to the model, and compares the answers."""

    #: Set by the test.
    real: RealLedger

    def __init__(self) -> None:
        super().__init__()
        self.real.clear()
        self.model = Model()
        self.nodes = [Node(self.real.register()) for _ in range(2)]
        #: Every task that was ever claimed, with the claim's number.
        self.issued: list[tuple[str, int]] = []

    def in_place(self, *places: str) -> list[Task]:
        """Tasks that stand there."""
        return [task for task in self.model.tasks.values() if task.place in places]

    def claimed(self, pick: int) -> tuple[Task, int]:
        """Some task in a worker's hands, and its claim."""
        tasks = self.in_place(CLAIM)
        task = tasks[pick % len(tasks)]
        assert task.claim_no is not None
        return task, task.claim_no

    def any_task(self, pick: int) -> Task:
        """Some task."""
        return list(self.model.tasks.values())[pick % len(self.model.tasks)]

    def living_node(self, which: int) -> Node:
        """A node that may claim; a new one in a dead one's place."""
        if self.nodes[which].is_dead:
            self.nodes[which] = Node(self.real.register())
        return self.nodes[which]

    @invariant()
    def ledger_is_as_expected(self) -> None:
        """Each task is where the model has it."""
        assert self.real.seen() == {task.id: task.seen() for task in self.model.tasks.values()}
        assert self.real.keys() == self.model.keys

    @invariant()
    def ledger_is_sound(self) -> None:
        """Counters, histories and places agree."""
        assert self.real.problems() == []
