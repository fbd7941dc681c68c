"""GET /tasks/{task_id}/stream."""

from __future__ import annotations

import concurrent.futures
import contextlib
import uuid

import psycopg2

from ledgerq_shared.statements.read_stream import read_news
from ledgerq_shared.states import State
from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.lives import Worker
from tests.support.sse import EventStream

WHOLE = ["submitted", "dispatched", "started", "succeeded"]


def stream(api, task_id, last_event_id=None):
    return EventStream(f"{api.url}/tasks/{task_id}/stream", last_event_id)


def entries(api, task_id):
    return api.get(f"/tasks/{task_id}/events").json()["events"]


def followers(api):
    return len(api.services.streams.feed._all)


def test_a_stream_of_a_final_task_is_its_history_and_ends(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS, result="1")
    with stream(api, task_id) as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-store"
        client.until_over()
    assert [data for *_, data in client.events] == entries(api, task_id)
    assert [(number, kind) for number, kind, _ in client.events] == list(enumerate(WHOLE, 1))
    wait.until(lambda: followers(api) == 0, 30, what="nobody follows any more")


def test_every_step_is_seen_live_and_the_stream_ends_after_the_last(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker, stream(api, task_id) as client:
        client.until("submitted")
        task = worker.claim()[task_id]
        worker.begin(task)
        client.until("started")
        worker.progress(task, 50.0, "half\nway")
        client.until("progress")
        worker.end(task, State.FAILURE, before=State.STARTED, error={"type": "E", "message": "m"})
        client.until_over()
    assert client.kinds() == ["submitted", "dispatched", "started", "progress", "failed"]
    assert client.events[3][2]["data"] == {"progress": 50, "status": "half\nway"}
    assert [data for *_, data in client.events] == entries(api, task_id)


def test_a_stream_goes_on_after_the_last_event_that_the_client_has(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS, result="1")
    # The end's row stands for three steps, so two of these begin in the middle of it.
    for last in range(4):
        with stream(api, task_id, last) as client:
            client.until_over()
        assert client.kinds() == WHOLE[last:]
    for last in (4, 5, 999_999_999):
        answer = api.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": str(last)})
        assert (answer.status, answer.body) == (204, b"")


def test_an_interrupted_client_misses_nothing_and_sees_nothing_twice(api):
    task_id = api.submit()
    seen = []
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        for percent in range(20):
            worker.progress(task, float(percent), None)
            with stream(api, task_id, seen[-1][0] if seen else None) as client:
                client.until("progress")
            seen += client.events
        worker.end(task, State.SUCCESS, before=State.STARTED)
    with stream(api, task_id, seen[-1][0]) as client:
        client.until_over()
    seen += client.events
    assert [number for number, *_ in seen] == list(range(1, 25))


def test_a_client_that_comes_back_within_steps_that_share_a_row_sees_none_of_them_twice(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS)  # dispatched, started and succeeded are one row
    for seen in range(len(WHOLE)):
        with stream(api, task_id, seen or None) as client:
            client.until_over()
        assert client.kinds() == WHOLE[seen:]


def test_a_task_that_fails_and_runs_again_is_followed_to_its_last_end(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker, stream(api, task_id) as client:
        worker.retry(worker.claim()[task_id], 0.0)
        client.until("retried")
        worker.end(worker.claim()[task_id], State.SUCCESS)
        client.until_over()
    assert client.kinds() == ["submitted", "dispatched", "started", "retried", "dispatched", "started", "succeeded"]


def test_a_long_history_is_whole(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        for percent in range(399):  # so that the look that meets the end is a full one
            worker.progress(task, float(percent % 100), None)
        with stream(api, task_id) as client:
            wait.until(lambda: len(client.events) == 402, 30, what=lambda: str(len(client.events)))
            worker.end(task, State.SUCCESS, before=State.STARTED)
            client.until_over()
    assert [number for number, *_ in client.events] == list(range(1, 404))
    with stream(api, task_id, 3) as client:
        client.until_over()
    assert [number for number, *_ in client.events] == list(range(4, 404))


def test_a_history_of_large_steps_is_whole_and_taken_a_part_at_a_time(api):
    task_id = api.submit()
    databases.execute(
        api.database_url,
        "INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data) SELECT "
        f"'{task_id}', n, now(), 'log', 0, 'worker:w', json_build_object('message', repeat('\u6f22', 21000)) "
        f"FROM generate_series(2, 600) AS s(n); UPDATE task SET seq = 600 WHERE id = '{task_id}'",
    )
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(stream(api, task_id)) for _ in range(3)]
        for client in clients:
            wait.until(lambda client=client: len(client.events) == 600, 60)
            assert [number for number, *_ in client.events] == list(range(1, 601))
    many = api.services.database.fetch(read_news([task_id] * 20, [0] * 20, limit=200, most_characters=100_000))
    assert [news.event.seq for news in many] == list(range(1, 8)) * 20


def test_many_streams_share_the_looks_at_the_ledger(api):
    ids = [api.submit() for _ in range(10)]
    with Worker(api.database_url) as worker, concurrent.futures.ThreadPoolExecutor(60) as pool:
        clients = [stream(api, ids[n % 10]) for n in range(60)]
        hang_up = contextlib.ExitStack()
        list(pool.map(hang_up.enter_context, clients))
        wait.until(lambda: followers(api) == 60, 30, what="sixty followers")
        for task in worker.claim().values():
            worker.end(task, State.SUCCESS)
        for client in clients:
            client.until_over()
            assert client.kinds() == WHOLE
        hang_up.close()


def test_who_hangs_up_is_forgotten_and_without_streams_the_ledger_is_not_asked(api):
    task_id = api.submit()
    with stream(api, task_id) as client:
        client.until("submitted")
        assert followers(api) == 1
    wait.until(lambda: followers(api) == 0, 30, what="the stream is noticed to be gone")
    wait.until(lambda: api.services.streams.feed._reader is None, 30, what="nobody reads")


def test_a_stream_survives_the_loss_of_its_connections_to_postgresql(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker, stream(api, task_id) as client:
        client.until("submitted")
        connection = psycopg2.connect(api.database_url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for _ in range(5):
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'ledgerq-api' AND datname = current_database()"
                )
        connection.close()
        worker.end(worker.claim()[task_id], State.SUCCESS)
        client.until_over()
    assert client.kinds() == WHOLE


def test_a_server_that_ends_ends_its_streams_whole(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as api:
        task_id = api.submit()
        client = stream(api, task_id).__enter__()
        client.until("submitted")
        api.services.stop_waiting()
        client.until_over()
    client.__exit__(None, None, None)


def test_unknown_tasks_and_odd_numbers_are_problems(api):
    for odd in (uuid.uuid4(), "abc", "%00"):
        answer = api.get(f"/tasks/{odd}/stream")
        assert (answer.status, answer.json()["code"]) == (404, "task_not_found")
    task_id = api.submit()
    for odd in ("x", "-1", "1.5", "9999999999"):
        answer = api.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": odd})
        assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
