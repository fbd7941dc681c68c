"""Submit tasks in the caller's transaction: one statement for all tasks, and the further statements that unique keys
need.

Tasks that share a key are taken in their order, as if each had come alone. Only ``replace`` with a taken key needs
further statements, as many for a thousand tasks as for one; a task that only finds its key taken is answered by the
first statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.errors import DuplicateTask, ScopeMissing
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, confirm, execute
from ledgerq_shared.statements.submit import NewTask, are_plain, submit_plain_tasks, submit_tasks
from ledgerq_shared.statements.unique import (
    SubmitRow,
    free_keys,
    give_way,
    submit_replaced,
    submit_unique_tasks,
    submitters_of,
    take_over,
)
from ledgerq_shared.states import FINAL, State

#: What a submit may ask for if its unique key is taken; the first is the default.
POLICIES = ("return_existing", "reject", "replace")

#: The greatest length of a unique key in characters, and the longest time for which a key is held, in seconds (ten
#: years).
LONGEST_KEY = 255
LONGEST_TTL = 315_360_000


class Existing(NamedTuple):
    """The task that a submit gets instead of its own: it holds the unique key."""

    id: UUID
    state: State


class Submitted(NamedTuple):
    """The outcome of a submit."""

    #: By queue: how many tasks that are new in the ledger may run now.
    ready: Counter[str]
    #: By id: the tasks that were not accepted, because another task holds their unique key.
    others: dict[UUID, Existing | DuplicateTask | ScopeMissing]

    def accepted(self, tasks: Sequence[NewTask]) -> Sequence[NewTask]:
        """Those of ``tasks`` (which are all tasks of the submit) that are in the ledger."""
        return [task for task in tasks if task.id not in self.others] if self.others else tasks


def submit(
    cursor: Cursor, tasks: Sequence[NewTask], *, are_new: bool = False, lost: Collection[UUID] = ()
) -> Submitted:
    """Accept ``tasks``. Sending the same ids again changes nothing.

    Args:
        tasks: all of one actor, if one of them may end only its own actor's tasks (``ends_own``).
        are_new: this is the first time that these ids are sent, as in
            :func:`~ledgerq_shared.statements.submit.submit_tasks`.
        lost: ids of those that had been accepted before the ledger went back in time. They replace no task that is
            newer than themselves; a task that no longer gets its key is put back nevertheless, ended as replaced.
    """
    is_plain = are_plain(tasks)
    if is_plain or all(task.options is None or task.options.unique_key is None for task in tasks):
        statement = submit_plain_tasks(tasks) if is_plain and are_new else submit_tasks(tasks)
        return Submitted(Counter(dict(execute(cursor, statement))), {})
    order = _arranged(list({task.id: task for task in tasks}.values()))
    submitted = Submitted(Counter(), {})
    holders: dict[UUID, Existing] = {}
    for leaders in (order.first, order.then):
        if leaders:
            _submit_round(cursor, leaders, submitted, holders, lost)
    _submit_replaced(cursor, order.replaced, submitted, holders)
    for task, leader in order.followers:
        holders[task.id] = holders.get(leader.id) or Existing(leader.id, State.PENDING)
        submitted.others[task.id] = _answer(task, holders[task.id])
    if late := [task for task in tasks if task.id in lost and task.id in submitted.others]:
        _bring_back_ended(cursor, late, submitted, holders)
    bound = [task for task in tasks if task.id in submitted.others and _is_bound(task)]
    if bound:
        _hide(cursor, bound, submitted, holders)
    if submitted.others:
        confirm(cursor)
    return submitted


def _is_bound(task: NewTask) -> bool:
    return bool(task.options and (task.options.sees_own or task.options.ends_own))


def _hide(cursor: Cursor, tasks: Sequence[NewTask], submitted: Submitted, holders: Mapping[UUID, Existing]) -> None:
    """Hide the task that holds the key from callers who may not see or end others' tasks."""
    ids = {holders[task.id].id for task in tasks}
    actors = dict(execute(cursor, submitters_of(list(ids))))
    for task in tasks:
        assert task.options is not None
        if actors[str(holders[task.id].id)] == task.actor:
            continue
        if task.options.ends_own and _policy(task) == "replace":
            submitted.others[task.id] = ScopeMissing(
                say("unique_policy: replace would revoke a task of another key; that needs the scope tasks:control."),
                scope="tasks:control",
            )
        elif task.options.sees_own:
            submitted.others[task.id] = DuplicateTask(
                say("The unique_key is taken by a task of another key; to be told which needs the scope tasks:read."),
                scope="tasks:read",
            )


class _Order(NamedTuple):
    """The order in which tasks that share keys are submitted, so that each gets the same outcome as alone, in a bounded
    number of statements, however many tasks there are.
    """

    #: No two of these have the same key.
    first: list[NewTask]
    #: Submitted after the tasks of `first`: for each key, the last task that replaces, unless the key's first task replaces.
    then: list[NewTask]
    #: All other tasks that replace, each with the task that takes its key in the end. Each is replaced at once.
    replaced: list[tuple[NewTask, NewTask]]
    #: All remaining tasks, each with the task whose answer it gets.
    followers: list[tuple[NewTask, NewTask]]


def _arranged(tasks: Sequence[NewTask]) -> _Order:
    order = _Order([], [], [], [])
    chains: dict[str, list[NewTask]] = {}
    for task in tasks:
        key = None if task.options is None else task.options.unique_key
        if key is None:
            order.first.append(task)
        else:
            chains.setdefault(key, []).append(task)
    for chain in chains.values():
        leader = chain[0]
        replacing = [task for task in chain if _policy(task) == "replace"]
        if not replacing or replacing[0] is not leader:
            order.first.append(leader)
        if replacing:
            (order.first if replacing[0] is leader else order.then).append(replacing[-1])
            order.replaced.extend((task, replacing[-1]) for task in replacing[:-1])
        for task in chain[1:]:
            if _policy(task) == "replace":
                leader = task
            else:
                order.followers.append((task, leader))
    return order


def _submit_round(
    cursor: Cursor,
    tasks: Sequence[NewTask],
    submitted: Submitted,
    holders: dict[UUID, Existing],
    late: Collection[UUID],
) -> None:
    lost: dict[UUID, SubmitRow] = {}
    accepted = _submit_once(cursor, tasks, submitted, lost)
    contested = [
        task
        for task in tasks
        if (row := lost.get(task.id))
        and (row.is_stale or (_policy(task) == "replace" and not (task.id in late and _is_newer(row.holder, task.id))))
    ]
    if contested:
        execute(cursor, take_over(contested))
        # Tasks that have their keys now are accepted; for all others, the answer says what state the holder has now.
        for task in contested:
            del lost[task.id]
        accepted |= _submit_once(cursor, contested, submitted, lost)
    keys = {task.id: task.options.unique_key for task in tasks if task.options and task.options.unique_key}
    if vain := {task_id: key for task_id, key in keys.items() if task_id not in accepted and task_id not in lost}:
        execute(cursor, free_keys(vain))
    for task in tasks:
        if (row := lost.get(task.id)) and row.holder:
            holders[task.id] = Existing(UUID(row.holder), State(row.state or State.PENDING))
            submitted.others[task.id] = _answer(task, holders[task.id])


def _submit_once(
    cursor: Cursor, tasks: Sequence[NewTask], submitted: Submitted, lost: dict[UUID, SubmitRow]
) -> set[UUID]:
    """Submit; returns the ids of the accepted tasks, and puts those that were not accepted into ``lost``."""
    accepted: set[UUID] = set()
    for row in execute(cursor, submit_unique_tasks(tasks)):
        if row.holder is None:
            accepted.add(UUID(row.id))
            submitted.ready[row.queue] += row.is_ready
        else:
            lost[UUID(row.id)] = row
    return accepted


def _submit_replaced(
    cursor: Cursor,
    replaced: Sequence[tuple[NewTask, NewTask]],
    submitted: Submitted,
    holders: dict[UUID, Existing],
) -> None:
    """Accept and at once end the tasks that another task of the same submit replaces; or refuse them, if that task was
    refused.
    """
    by: dict[UUID, NewTask] = {}
    for task, last in replaced:
        if holder := holders.get(last.id):
            holders[task.id] = holder
            submitted.others[task.id] = _answer(task, holder)
        else:
            by[task.id] = last
    if by:
        rows = execute(cursor, submit_replaced([task for task, _ in replaced if task.id in by]))
        if new := [UUID(task_id) for (task_id,) in rows]:
            execute(cursor, give_way([(task_id, by[task_id]) for task_id in new]))


def _bring_back_ended(
    cursor: Cursor, tasks: Sequence[NewTask], submitted: Submitted, holders: Mapping[UUID, Existing]
) -> None:
    """Accept tasks that had been accepted before, and end them at once: the task that holds the key now has replaced
    them.
    """
    ids = {holders[task.id].id for task in tasks}
    actors = dict(execute(cursor, submitters_of(list(ids))))
    new = {UUID(task_id) for (task_id,) in execute(cursor, submit_replaced(tasks))}
    pairs = []
    for task in tasks:
        holder = holders[task.id].id
        del submitted.others[task.id]
        if task.id in new:
            pairs.append((task.id, task._replace(id=holder, actor=actors[str(holder)] or task.actor)))
    if pairs:
        execute(cursor, give_way(pairs))


def _is_newer(holder: str | None, task_id: UUID) -> bool:
    """Compares ids, which are in the order of time."""
    return holder is not None and UUID(holder) > task_id


def _policy(task: NewTask) -> str:
    return (task.options and task.options.unique_policy) or POLICIES[0]


def _answer(task: NewTask, holder: Existing) -> Existing | DuplicateTask:
    policy = _policy(task)
    if policy == "return_existing":
        return holder
    if policy == "replace":
        why = "task {id}, which holds it, is {state} and in a worker's hands: cancel it first"
    elif holder.state in FINAL:
        why = "task {id} ({state}) holds it until its unique_ttl is over"
    else:
        why = "task {id} ({state}) holds it"
    return DuplicateTask(
        say("The unique_key is taken: {why}.", why=say(why, id=holder.id, state=holder.state)),
        task_id=str(holder.id),
        task_status=holder.state,
    )
