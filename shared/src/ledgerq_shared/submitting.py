"""Submit tasks in the caller's transaction: one statement for all, and what unique keys need beyond it.

Tasks that share a key are taken in their order, as if each had come alone. Only ``replace`` where the key is taken needs
further statements; who merely finds the key taken is answered by the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.database import execute, type_cursor
from ledgerq_shared.errors import DuplicateTask
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_shared.statements.unique import SubmitRow, submit_unique_tasks, take_over
from ledgerq_shared.states import FINAL, State

#: What a submit may ask for where its unique key is taken; the first is what happens unless it says.
POLICIES = ("return_existing", "reject", "replace")

#: Most characters of a unique key, and the longest time for which one is held, in seconds: ten years.
LONGEST_KEY = 255
LONGEST_TTL = 315_360_000


class Existing(NamedTuple):
    """The task that a submit gets instead of its own: it holds the unique key."""

    id: UUID
    state: State


class Submitted(NamedTuple):
    """What became of tasks."""

    #: By queue: how many that are new in the ledger may run now.
    ready: Counter[str]
    #: By id: those that were not accepted, because another task holds their unique key.
    others: dict[UUID, Existing | DuplicateTask]


def submit(cursor: type_cursor, tasks: Sequence[NewTask], *, are_new: bool = False) -> Submitted:
    """Accept ``tasks``. Sending the same ids again changes nothing.

    Args:
        are_new: this is the first time that these ids are sent, as in
            :func:`~ledgerq_shared.statements.submit.submit_tasks`.
    """
    if all(task.options is None or task.options.unique_key is None for task in tasks):
        return Submitted(Counter(dict(execute(cursor, submit_tasks(tasks, are_new=are_new)))), {})
    rounds, followers = _arranged(tasks)
    submitted = Submitted(Counter(), {})
    holders: dict[UUID, Existing] = {}
    for leaders in rounds:
        _submit_round(cursor, leaders, submitted, holders)
    for task, leader in followers:
        holder = holders.get(leader.id) or Existing(leader.id, State.PENDING)
        if holder.id != task.id:
            submitted.others[task.id] = _answer(task, holder)
    return submitted


def _arranged(tasks: Sequence[NewTask]) -> tuple[list[list[NewTask]], list[tuple[NewTask, NewTask]]]:
    """Rounds without a key twice, and who just gets what the task before it with the same key has got."""
    rounds: list[list[NewTask]] = [[]]
    followers: list[tuple[NewTask, NewTask]] = []
    leaders: dict[str, NewTask] = {}
    depths: dict[str, int] = {}
    for task in tasks:
        key = None if task.options is None else task.options.unique_key
        if key is None:
            rounds[0].append(task)
        elif key in leaders and _policy(task) != "replace":
            followers.append((task, leaders[key]))
        else:
            depth = depths[key] = depths.get(key, -1) + 1
            if depth == len(rounds):
                rounds.append([])
            rounds[depth].append(task)
            leaders[key] = task
    return rounds, followers


def _submit_round(
    cursor: type_cursor, tasks: Sequence[NewTask], submitted: Submitted, holders: dict[UUID, Existing]
) -> None:
    lost = _submit_once(cursor, tasks, submitted)
    contested = [task for task in tasks if (row := lost.get(task.id)) and (row.is_stale or _policy(task) == "replace")]
    if contested:
        won = {UUID(str(row[0])) for row in execute(cursor, take_over(contested))}
        for task_id in won:
            del lost[task_id]
        lost.update(_submit_once(cursor, [task for task in contested if task.id in won], submitted))
    for task in tasks:
        if (row := lost.get(task.id)) and row.holder:
            holders[task.id] = Existing(UUID(row.holder), State(row.state or State.PENDING))
            submitted.others[task.id] = _answer(task, holders[task.id])


def _submit_once(cursor: type_cursor, tasks: Sequence[NewTask], submitted: Submitted) -> dict[UUID, SubmitRow]:
    """Submit; returns what was not accepted, by id."""
    lost: dict[UUID, SubmitRow] = {}
    for row in map(SubmitRow._make, execute(cursor, submit_unique_tasks(tasks)) if tasks else ()):
        if row.holder is None:
            submitted.ready[row.queue] += row.is_ready
        else:
            lost[UUID(row.id)] = row
    return lost


def _policy(task: NewTask) -> str:
    return (task.options and task.options.unique_policy) or POLICIES[0]


def _answer(task: NewTask, holder: Existing) -> Existing | DuplicateTask:
    policy = _policy(task)
    if policy == "return_existing":
        return holder
    if policy == "replace":
        why = f"task {holder.id}, which holds it, is {holder.state} and in a worker's hands: cancel it first"
    elif holder.state in FINAL:
        why = f"task {holder.id} ({holder.state}) holds it until its unique_ttl is over"
    else:
        why = f"task {holder.id} ({holder.state}) holds it"
    return DuplicateTask(f"The unique_key is taken: {why}.", task_id=str(holder.id), task_status=holder.state)
