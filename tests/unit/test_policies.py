"""What must hold of the pure decisions whatever they are asked: hypothesis looks for the case that nobody thought of."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from celery import Celery
from celery.utils.time import get_exponential_backoff_interval
from hypothesis import given
from hypothesis import strategies as st

from ledgerq_api.auth.rates import Bucket
from ledgerq_api.scaling.service import Target, demand
from ledgerq_api.tasks.listing import ListQuery, may_be_old
from ledgerq_api.tasks.long_poll import LONGEST_WAIT, wait_of
from ledgerq_shared.ids import first_id_at
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.read_scaling import QueueLoad
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.tasks.submitting import POLICIES, _arranged
from ledgerq_worker.celery.messages import moment
from ledgerq_worker.celery.retries import next_of_message
from ledgerq_worker.celery.seams.sender import install_sender
from ledgerq_worker.drain.claim_size import ClaimSize
from ledgerq_worker.drain.low_water import LowWater
from ledgerq_worker.slot.ends import Next
from tests.support.claimed import claimed_task

T0 = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET, LIMIT = 0.05, 200

run_seconds = st.floats(0, 1e5, allow_subnormal=False)
counts = st.integers(0, 2_000_000)


# Claim size.


@given(st.lists(st.tuples(st.integers(1, LIMIT), run_seconds), max_size=40))
def test_a_claim_grows_to_twice_its_size_at_most_and_falls_to_what_fits_at_once(claims: list[tuple[int, float]]):
    policy = ClaimSize(budget=BUDGET, limit=LIMIT)
    for count, took in claims:
        before = policy.limit_for("q")
        policy.claim_ran("q", min(count, before), took)
        after = policy.limit_for("q")
        assert after <= before * 2
        if took > BUDGET:
            assert after == 1 or after * (took / min(count, before)) <= BUDGET * (1 + 1e-9)


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=40), st.floats(1e-4, 1e3))
def test_after_enough_runs_of_one_length_the_expected_cost_is_about_that_length(earlier: list[float], length: float):
    policy = ClaimSize(budget=BUDGET, limit=LIMIT)
    for took in [*earlier, *[length] * 80]:
        policy.measured("t", took)
    assert math.isclose(policy.cost_of_type["t"], length, rel_tol=0.2)


# The low-water mark.


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1e6)), max_size=6), max_size=12))
def test_a_mark_never_moves_back_nor_beyond_what_was_claimed(claims: list[list[tuple[int, float]]]):
    marks = LowWater()
    marks.marks("q")  # the first look is a full one
    latest: dict[int, datetime] = {}
    for claim in claims:
        # A claim comes in the order of the queue: by priority, then time.
        tasks = [_claimed(*one) for one in sorted(claim, key=lambda one: (-one[0], one[1]))]
        before = dict(marks._marks.get("q", {}))
        marks.claimed("q", tasks)
        for task in tasks:
            latest[task.priority] = max(latest.get(task.priority, T0), task.ready_at)
        after = marks._marks["q"]
        assert all(after[priority] >= mark for priority, mark in before.items())
        assert all(after[priority] < latest[priority] for priority in after)


def _claimed(priority: int, second: float) -> ClaimedTask:
    fields: dict[str, Any] = dict.fromkeys(ClaimedTask._fields)
    return ClaimedTask(**{**fields, "priority": priority, "ready_at": T0 + timedelta(seconds=second)})


# How many workers a load needs.

loads = st.builds(
    QueueLoad,
    queue=st.just("q"),
    is_paused=st.booleans(),
    backlog=counts,
    running=counts,
    busy_slots=st.integers(0, 5000),
    oldest_seconds=st.floats(0, 1e9),
    run_seconds=st.none() | run_seconds,
    live_slots=st.integers(0, 5000),
    slots_per_worker=st.none() | st.integers(1, 64),
)
targets = st.builds(
    Target,
    drain_seconds=st.floats(1, 1e5),
    run_seconds=st.floats(1e-3, 1e5),
    slots_per_worker=st.none() | st.integers(1, 64),
)


@given(st.lists(loads, max_size=4), targets)
def test_the_demand_is_always_a_number_and_never_takes_a_busy_slot_away(queues: list[QueueLoad], target: Target):
    said = demand(queues, target)
    each = target.slots_per_worker or max((load.slots_per_worker or 1 for load in queues), default=1)
    assert all(math.isfinite(value) and value >= 0 for value in (said.oldest_seconds, said.drain_seconds))
    assert said.desired_workers * each >= sum(load.busy_slots for load in queues)
    if any(load.backlog and load.run_seconds != 0 and not load.is_paused for load in queues):
        assert said.desired_workers >= 1
    # Never more slots than there are tasks to fill them.
    assert (said.desired_workers - 1) * each < max(1, sum(load.busy_slots + load.backlog for load in queues))


@given(loads, targets, counts)
def test_a_longer_backlog_never_needs_fewer_workers(load: QueueLoad, target: Target, more: int):
    longer = load._replace(backlog=load.backlog + more)
    assert demand([longer], target).desired_workers >= demand([load], target).desired_workers


# How many requests a key may make.


@given(
    st.floats(0.1, 10),
    st.integers(1, 5),
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 60.0]) | st.floats(0, 10), max_size=60),
)
def test_no_span_of_time_lets_more_requests_through_than_the_rate_and_one_burst(
    rate: float, burst: int, pauses: list[float]
):
    bucket, now, taken = Bucket(rate, burst, 0.0), 0.0, []
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        assert wait >= 0
        if not wait:
            taken.append(now)
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-6


@given(st.floats(0.1, 1000), st.integers(1, 100), st.integers(1, 150))
def test_who_waits_as_long_as_told_is_let_through(rate: float, burst: int, requests: int):
    bucket, now = Bucket(rate, burst, 0.0), 0.0
    for _ in range(requests):
        if wait := bucket.take(now):
            now += wait * (1 + 1e-9) + 1e-9
            assert bucket.take(now) == 0


# Delays of retries, and expiry.


@given(factor=st.integers(1, 100), retries=st.integers(0, 1000), most=st.integers(1, 100_000), has_jitter=st.booleans())
def test_a_retrys_delay_is_kept_as_celery_drew_it_and_within_its_bounds(
    factor: int, retries: int, most: int, has_jitter: bool
):
    delay = get_exponential_backoff_interval(factor, retries, most, has_jitter)
    usual = min(most, factor * 2**retries)
    assert (0 <= delay <= usual) if has_jitter else delay == usual
    leg = _next_leg_of(countdown=delay, retries=retries)
    assert (leg.delay or 0, leg.run_at, leg.retries) == (delay, None, retries)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.none() | st.timezones())  # noqa: DTZ001 - as Celery writes them
def test_a_time_of_a_message_is_the_same_moment_whatever_its_zone(written: datetime, zone: tzinfo | None):
    meant = written.replace(tzinfo=zone or UTC)
    said = moment(meant.isoformat() if zone else written.isoformat(), UTC)
    assert said is not None
    # In UTC: two zones never agree on a time that one of them has twice, or not at all.
    assert datetime.fromisoformat(said).astimezone(UTC) == meant.astimezone(UTC)


def _next_leg_of(**message: Any) -> Next:
    """What the sender keeps of the message with which Celery would send a running task again."""
    app = Celery("policies", broker="memory://", set_as_current=False)
    kept: list[Next] = []
    task = claimed_task("t")
    install_sender(app, lambda *sent: kept.append(_kept(task, sent[1])))
    made = app.amqp.as_task_v2(task.id, "t", (), {}, **message)
    app.amqp.send_task_message(None, "t", made)
    app.close()
    return kept[0]


def _kept(task: ClaimedTask, message: Any) -> Next:
    headers, properties, body, _ = message
    leg: Any = SimpleNamespace(task=task)
    return next_of_message("t", headers, properties, body, "default", leg, UTC)


# How long an answer may be held.


@given(st.binary(max_size=60) | st.integers(0, 10**12).map(lambda seconds: b"wait=%d" % seconds))
def test_a_wait_is_between_nothing_and_the_longest_whatever_is_sent(prefer: bytes):
    assert 0 <= wait_of(prefer) <= LONGEST_WAIT


# Unique keys within one batch.

keyed = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, *POLICIES])), max_size=20)


@given(keyed)
def test_a_batch_is_arranged_so_that_each_key_is_taken_in_the_order_of_its_tasks(wanted: list[tuple[Any, Any]]):
    tasks = [
        NewTask(UUID(int=n + 1), "t", "q", "{}", options=NewTaskOptions(unique_key=key, unique_policy=policy))
        for n, (key, policy) in enumerate(wanted)
    ]
    first, then, replaced, followers = _arranged(tasks)
    one_of_each = [*first, *then, *(task for task, _ in replaced), *(task for task, _ in followers)]
    assert sorted(task.id for task in one_of_each) == [task.id for task in tasks]
    seen: dict[str, UUID] = {}
    for one in (first, then):
        keys = [task.options.unique_key for task in one if task.options and task.options.unique_key]
        assert len(keys) == len(set(keys)), "a statement meets no key twice"
        for task in one:
            if task.options and (key := task.options.unique_key):
                assert seen.get(key, UUID(int=0)) < task.id
                seen[key] = task.id
    for task, last in replaced:
        assert task.options
        assert last.options
        assert (task.options.unique_key, task.options.unique_policy) == (last.options.unique_key, "replace")
        assert last.options.unique_policy == "replace"
        assert task.id < last.id == seen[str(task.options.unique_key)], "the last one has the key"
    for task, leader in followers:
        assert task.options
        assert leader.options
        assert (task.options.unique_key, task.options.unique_policy != "replace") == (leader.options.unique_key, True)
        assert leader.id < task.id
        between = [other for other in tasks if leader.id < other.id < task.id and other.options]
        assert not [
            other for other in between
            if other.options and other.options.unique_key == task.options.unique_key
            and other.options.unique_policy == "replace"
        ], "a follower gets what the last task with its key has got"  # fmt: skip


@given(age=st.floats(-3600, 3600), max_lag=st.floats(2, 600), page=st.integers(1, 3))
def test_a_replica_answers_only_first_pages_and_what_is_behind_a_cursor_that_it_has_long_replayed(
    age: float, max_lag: float, page: int
):
    assert may_be_old(ListQuery(page=page), max_lag=max_lag) == (page == 1)
    cursor = first_id_at(datetime.now(UTC) - timedelta(seconds=age))
    known = may_be_old(ListQuery(cursor=cursor), max_lag=max_lag)
    if abs(age - 60 - max_lag) > 5:  # the time that this takes
        assert known == (age > 60 + max_lag)
    assert not may_be_old(ListQuery(cursor=UUID(int=cursor.int & ~(7 << 76))), max_lag=max_lag), "it tells no time"
