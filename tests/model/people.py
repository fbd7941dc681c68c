"""What people and programs do through the API: real requests to a real server."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledgerq_shared.states import FINAL, State
from tests.model.expected import HELD, READY, Task
from tests.model.machine import ANY, QUEUES, Machine, any_task
from tests.model.real_ledger import LATER
from tests.support.api import ANYTHING

if TYPE_CHECKING:
    from tests.support.http import Response

_NEW = st.fixed_dictionaries(
    {
        "queue": QUEUES,
        "priority": st.sampled_from([5, 5, 9]),
        "key": st.sampled_from([None, "k1", "k1", "k2"]),
        "policy": st.sampled_from(["return_existing", "reject", "replace"]),
        "waits": st.sampled_from([False, False, True]),
        "expires": st.booleans(),
        "runs_once": st.sampled_from([False, False, True]),
    }
)


class People(Machine):
    """Rules that call the API."""

    @rule(new=_NEW, is_keyed=st.booleans())
    def submits_one(self, new: dict[str, Any], is_keyed: bool) -> None:
        key = f"key-{len(self.model.answers)}" if is_keyed else None
        answer = self._submit(new, key)
        said = answer.json() if answer.status == 202 else {}
        self.model.next_moment()
        outcome = self.model.submit(_expected(said.get("task_id", "refused"), new, self.model.tasks), new["policy"])
        if outcome == "refused":
            assert _refusal(answer) == "duplicate_task"
            return
        assert answer.status == 202, answer.body
        if outcome != "accepted":
            assert said["task_id"] == outcome
        assert said["status"] == str(self.model.tasks[said["task_id"]].state)
        if key is not None:
            self.model.answers[key] = (new, said)
            assert self._submit(new, key).json() == said

    @precondition(lambda self: bool(self.model.answers))
    @rule(pick=ANY, is_edited=st.sampled_from([False, False, True]))
    def submits_it_again(self, pick: int, is_edited: bool) -> None:
        key, (new, said) = list(self.model.answers.items())[pick % len(self.model.answers)]
        answer = self._submit({**new, "priority": 1} if is_edited else new, key)
        if is_edited:
            assert _refusal(answer) == "idempotency_key_reused"
        else:
            assert (answer.status, answer.json()) == (202, said)

    def _submit(self, new: dict[str, Any], key: str | None) -> Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.real.api.post("/tasks/submit", _body(new), headers=headers)

    @rule(news=st.lists(_NEW, min_size=2, max_size=5))
    def submits_a_batch(self, news: list[dict[str, Any]]) -> None:
        answer = self.real.api.post("/tasks/submit/batch", {"tasks": [_body(new) for new in news]})
        self.model.next_moment()
        trial = copy.deepcopy(self.model)
        outcomes = [trial.submit(_expected(f"new-{n}", new, {}), new["policy"]) for n, new in enumerate(news)]
        if "refused" in outcomes:  # all or nothing
            assert _refusal(answer) == "duplicate_task"
            return
        assert answer.status == 202, answer.body
        ids = [item["task_id"] for item in answer.json()["tasks"]]
        for task_id, new, outcome in zip(ids, news, outcomes, strict=True):
            said = self.model.submit(_expected(task_id, new, self.model.tasks), new["policy"])
            assert (said if outcome == "accepted" else said == task_id) in ("accepted", True)

    @precondition(any_task)
    @rule(pick=ANY, terminate=st.booleans())
    def cancels(self, pick: int, terminate: bool) -> None:
        task = self.any_task(pick)
        answer = self.real.api.post(f"/tasks/{task.id}/cancel", {"terminate": terminate})
        state = self.model.cancel(task)
        if state is None:
            assert _refusal(answer) == "task_is_final"
        else:
            assert (answer.status, answer.json()["status"]) == (202, str(state))

    @precondition(any_task)
    @rule(pick=ANY)
    def runs_it_again(self, pick: int) -> None:
        self.retries(self.any_task(pick))

    def retries(self, task: Task) -> None:
        was = task.state
        answer = self.real.api.post(f"/tasks/{task.id}/retry", {})
        if self.model.resubmit(task):
            assert (answer.status, answer.json()) == (202, {"task_id": task.id, "status": "PENDING"})
        elif was not in FINAL:
            assert _refusal(answer) == "task_is_not_final"
        else:
            assert _refusal(answer) == ("task_is_final" if was is State.SUCCESS else "duplicate_task")

    @precondition(any_task)
    @rule(pick=ANY)
    def submits_one_like_it(self, pick: int) -> None:
        old = self.any_task(pick)
        answer = self.real.api.post(f"/tasks/{old.id}/rerun", {})
        assert answer.status == 202, answer.body
        new = Task(answer.json()["task_id"], old.queue, old.priority, runs_once=old.runs_once)
        assert new.id not in self.model.tasks
        self.model.next_moment()
        assert self.model.submit(new, "reject") == "accepted"
        assert self.real.api.get(f"/tasks/{old.id}").json()["reruns"][0] == new.id

    @rule(queue=QUEUES, paused=st.sampled_from([True, False, False]))
    def pauses(self, queue: str, paused: bool) -> None:
        answer = self.real.api.post(f"/queues/{queue}/{'pause' if paused else 'resume'}", {})
        assert (answer.status, answer.json()["paused"]) == (200, paused)
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    @precondition(any_task)
    @rule(pick=ANY)
    def asks(self, pick: int) -> None:
        task = self.any_task(pick)
        status = self.real.api.status(task.id)
        assert (status["status"], status["attempt"], status["queue"], status["cancel_requested"]) == (
            str(task.state), task.attempt, task.queue, task.is_cancelled,
        )  # fmt: skip
        findings = self.real.api.get(f"/tasks/{task.id}/explain").json()["findings"]
        assert {finding["code"] for finding in findings} & self.model.EXPLAINED == self.model.explain(task)
        listed = self.real.api.get("/tasks/", status=str(task.state), queue=task.queue).json()
        alike = [one for one in self.model.tasks.values() if (one.state, one.queue) == (task.state, task.queue)]
        assert listed["total_count"] == len(alike)


def _refusal(answer: Response) -> str:
    assert 400 <= answer.status < 500, (answer.status, answer.body)
    return str(answer.json()["code"])


def _body(new: dict[str, Any]) -> dict[str, Any]:
    return {
        "task_type": ANYTHING,
        "queue": new["queue"],
        "priority": new["priority"],
        "countdown": LATER if new["waits"] else None,
        "expires": 2 * LATER if new["expires"] else None,
        "on_worker_lost": "fail" if new["runs_once"] else None,
        "unique_key": new["key"],
        "unique_policy": new["policy"] if new["key"] else None,
    }


def _expected(task_id: str, new: dict[str, Any], known: dict[str, Task]) -> Task:
    """The task that the answer promises; if it names a known one, the model must say so too."""
    return Task(
        f"not {task_id}" if task_id in known else task_id,
        new["queue"], new["priority"], new["key"], new["runs_once"], False if new["expires"] else None,
        place=HELD if new["waits"] else READY,
    )  # fmt: skip
