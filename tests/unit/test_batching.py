"""Natural batching: one flush at a time, what arrives meanwhile forms the next one, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.process.batching import AsyncBatcher, Batcher, run_flush

SOON = 10.0


class Flushes:
    """A flush that the test lets through one by one, and that remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.entered = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.running = 0
        self.most_at_once = 0

    def __call__(self, items: list[Any]) -> list[Any]:
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.batches.append(items)
        self.entered.release()
        assert self.allowed.acquire(timeout=SOON)
        self.running -= 1
        return [item * 2 for item in items]

    def wait_for_one(self) -> None:
        assert self.entered.acquire(timeout=SOON)

    def allow(self, count: int = 1) -> None:
        for _ in range(count):
            self.allowed.release()


def double(items: list[int]) -> list[int]:
    return [item * 2 for item in items]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_an_idle_batcher_flushes_the_first_item_at_once_and_collects_what_comes_meanwhile():
    flush = Flushes()
    batcher: Batcher[int, int] = Batcher(flush, max_items=100, name="test")
    first = batcher.submit(1)
    flush.wait_for_one()
    others = [batcher.submit(number) for number in (2, 3, 4)]
    flush.allow(2)
    assert [future.result(SOON) for future in (first, *others)] == [2, 4, 6, 8]
    assert flush.batches == [[1], [2, 3, 4]]
    assert flush.most_at_once == 1
    batcher.close(SOON)


def test_a_batch_is_no_larger_than_allowed_and_keeps_the_order():
    flush = Flushes()
    batcher: Batcher[int, int] = Batcher(flush, max_items=2, name="test")
    futures = [batcher.submit(0)]
    flush.wait_for_one()
    futures += [batcher.submit(number) for number in range(1, 6)]
    flush.allow(4)
    assert [future.result(SOON) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert flush.batches == [[0], [1, 2], [3, 4], [5]]
    batcher.close(SOON)


def test_closing_flushes_what_is_pending_and_refuses_more():
    flush = Flushes()
    batcher: Batcher[int, int] = Batcher(flush, max_items=10, name="test")
    batcher.submit(1)
    flush.wait_for_one()
    last = batcher.submit(2)
    flush.allow(2)
    batcher.close(SOON)
    assert last.result(0) == 4
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(3)


def test_no_thread_runs_before_the_first_item_or_after_the_end():
    def count() -> int:
        return sum(thread.name == "batcher-counted" for thread in threading.enumerate())

    batcher: Batcher[int, int] = Batcher(double, max_items=10, name="counted")
    assert count() == 0
    batcher.submit(1).result(SOON)
    assert count() == 1
    batcher.close(SOON)
    assert count() == 0


def test_a_caller_that_gave_up_does_not_stop_the_batcher():
    flush = Flushes()
    batcher: Batcher[int, int] = Batcher(flush, max_items=10, name="test")
    batcher.submit(1)
    flush.wait_for_one()
    given_up, other = batcher.submit(2), batcher.submit(3)
    assert given_up.cancel()
    flush.allow(2)
    assert other.result(SOON) == 6
    flush.allow()
    assert batcher.submit(4).result(SOON) == 8
    batcher.close(SOON)


def test_a_poisonous_item_fails_alone():
    def flush(items: list[int]) -> list[int]:
        if 7 in items:
            raise ValueError("seven")
        return double(items)

    outcomes = run_flush(flush, list(range(20)))
    assert [outcome for number, outcome in enumerate(outcomes) if number != 7] == [n * 2 for n in range(20) if n != 7]
    assert isinstance(outcomes[7], ValueError)


@given(st.lists(st.booleans(), max_size=40))
def test_exactly_the_poisonous_items_fail_however_they_lie(poisonous: list[bool]):
    def flush(items: list[tuple[int, bool]]) -> list[int]:
        if any(is_poison for _, is_poison in items):
            raise ValueError
        return [number for number, _ in items]

    outcomes: Sequence[Any] = run_flush(flush, list(enumerate(poisonous)))
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == poisonous
    assert all(outcome == number for number, outcome in enumerate(outcomes) if not poisonous[number])


@pytest.mark.parametrize("error", [LedgerUnavailable, OutcomeUnknown])
def test_an_outage_is_told_to_everybody_after_one_try(error: type[Exception]):
    tries = []

    def flush(items: list[int]) -> list[int]:
        tries.append(items)
        raise error

    outcomes = run_flush(flush, [1, 2, 3])
    assert [type(outcome) for outcome in outcomes] == [error] * 3
    assert len(tries) == 1


def test_an_outcome_that_is_an_exception_is_raised_to_its_caller_alone():
    batcher: Batcher[int, int] = Batcher(
        lambda items: [KeyError(item) if item == 1 else item for item in items], max_items=10, name="test"
    )
    assert batcher.submit(0).result(SOON) == 0
    with pytest.raises(KeyError):
        batcher.submit(1).result(SOON)
    batcher.close(SOON)


@pytest.mark.parametrize("answer", [[], [1, 2, 3]])
def test_a_flush_with_the_wrong_number_of_outcomes_is_an_error_and_not_a_hang(answer: list[int]):
    batcher: Batcher[int, int] = Batcher(lambda _: answer, max_items=10, name="test")
    with pytest.raises(RuntimeError, match="outcomes"):
        batcher.submit(1).result(SOON)
    with pytest.raises(RuntimeError, match="outcomes"):
        batcher.submit(2).result(SOON)
    batcher.close(SOON)


def test_async_callers_share_batches_too(executor: ThreadPoolExecutor):
    flush = Flushes()

    async def scenario() -> list[int]:
        batcher: AsyncBatcher[int, int] = AsyncBatcher(flush, max_items=2, executor=executor)
        futures = [batcher.submit(1)]
        await asyncio.to_thread(flush.wait_for_one)
        futures += [batcher.submit(number) for number in (2, 3, 4)]
        flush.allow(3)
        outcomes = await asyncio.gather(*futures)
        await batcher.close()
        return outcomes

    assert asyncio.run(scenario()) == [2, 4, 6, 8]
    assert flush.batches == [[1], [2, 3], [4]]
    assert flush.most_at_once == 1


def test_a_cancelled_async_caller_stops_neither_its_item_nor_its_neighbours(executor: ThreadPoolExecutor):
    flush = Flushes()

    async def scenario() -> int:
        batcher: AsyncBatcher[int, int] = AsyncBatcher(flush, max_items=10, executor=executor)
        batcher.submit(1)
        await asyncio.to_thread(flush.wait_for_one)
        given_up, other = batcher.submit(2), batcher.submit(3)
        given_up.cancel()
        flush.allow(2)
        outcome = await other
        await batcher.close()
        return outcome

    assert asyncio.run(scenario()) == 6
    assert flush.batches == [[1], [2, 3]]


def test_an_async_batcher_flushes_again_after_it_was_idle(executor: ThreadPoolExecutor):
    async def scenario() -> list[int]:
        batcher: AsyncBatcher[int, int] = AsyncBatcher(double, max_items=10, executor=executor)
        outcomes = [await batcher.submit(1), await batcher.submit(2)]
        await batcher.close()
        await batcher.close()
        return outcomes

    assert asyncio.run(scenario()) == [2, 4]


def test_async_callers_get_their_own_errors(executor: ThreadPoolExecutor):
    def flush(items: list[int]) -> list[int]:
        if 2 in items:
            raise ValueError("two")
        return double(items)

    async def scenario() -> list[Any]:
        batcher: AsyncBatcher[int, int] = AsyncBatcher(flush, max_items=10, executor=executor)
        return await asyncio.gather(*(batcher.submit(number) for number in (1, 2, 3)), return_exceptions=True)

    one, two, three = asyncio.run(scenario())
    assert (one, three) == (2, 6)
    assert isinstance(two, ValueError)


def test_an_executor_that_has_ended_is_told_to_async_callers_and_does_not_hang_them():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    async def scenario() -> None:
        batcher: AsyncBatcher[int, int] = AsyncBatcher(double, max_items=1, executor=executor)
        futures = [batcher.submit(1), batcher.submit(2)]
        async with asyncio.timeout(SOON):
            for future in futures:
                with pytest.raises(RuntimeError, match="shutdown"):
                    await future

    asyncio.run(scenario())
