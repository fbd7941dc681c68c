"""What a process keeps of what it accepted last: bounded whatever it is made of, and looked at as long as it is there."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from ledgerq_api.tasks.recent import Recent
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.statements.idempotency import KeyedSubmit
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MEBIBYTE = 1024 * 1024


class Away:
    @contextmanager
    def transaction(self, **_: object) -> Iterator[Any]:
        raise LedgerUnavailable
        yield


@pytest.fixture
def recent() -> Iterator[Recent]:
    made = Recent(cast("Any", Away()), lambda _: None, seconds=10.0)
    yield made
    made.close()


def a_task(parameters: str = "{}", options: NewTaskOptions | None = None) -> NewTask:
    return NewTask(new_task_id(), "demo.anything", "default", parameters, options=options)


class Again:
    def __call__(self, tasks: Sequence[NewTask], keys: Sequence[KeyedSubmit]) -> Counter[str]:
        return Counter()


LARGE = [
    pytest.param([a_task("x" * MEBIBYTE)], id="parameters"),
    pytest.param([a_task(options=NewTaskOptions(metadata="x" * MEBIBYTE))], id="metadata"),
    pytest.param([a_task(options=NewTaskOptions(tags=["x" * 128] * 8192))], id="tags"),
    pytest.param([a_task(), a_task("x" * MEBIBYTE)], id="a repeat in the same commit"),
]


@pytest.mark.parametrize("sent", LARGE)
def test_what_is_kept_is_bounded_whatever_makes_it_large(recent: Recent, sent: list[NewTask]):
    kept = []
    for _ in range(100):
        again = Again()
        kept.append(weakref.ref(again))
        recent.keep(sent[:1], sent, [], again)
        del again
    gc.collect()
    assert 0 < sum(one() is not None for one in kept) <= 33


def test_what_is_accepted_while_a_look_finds_nothing_is_looked_at_all_the_same(recent: Recent):
    class Lock:
        """Lets somebody else go on as soon as the look gives it back."""

        _lock = threading.Lock()
        _is_first = True

        def __enter__(self) -> None:
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()
            if self._is_first:
                self._is_first = False
                recent.keep([task := a_task()], [task], [], Again())

    recent._thread = threading.current_thread()  # nobody else looks
    recent._lock = cast("Any", Lock())
    recent.look()
    assert recent._has_some.is_set()


def test_what_is_kept_comes_back_as_it_was_sent(recent: Recent):
    said = {
        "run_at": "2026-11-30T12:00:00Z",
        "rerun_of": new_task_id(),
        "tags": ["a", "b"],
        "expires_in": 1.5,
        "sees_own": True,
        "celery_id": "列",
    }
    sent = [
        a_task('{"x": "任务"}')._replace(priority=3, trace="00-a-b-01"),
        a_task(options=NewTaskOptions(**cast("Any", said))),
        a_task(),
    ]
    keys = [KeyedSubmit("key", b"\x00\xff", sent[1].id, "owner")]
    recent._thread = threading.current_thread()  # nobody looks
    recent.keep(sent[:2], sent, keys, Again())
    [kept] = recent._kept
    assert kept.restored() == (sent, keys)
    assert kept.restored()[1][0].task_id == sent[1].id
    assert kept.ids() == [sent[0].id, sent[1].id]
