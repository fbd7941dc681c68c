"""Results reach Redis in one write: stored, published, with their lifetime; a refusal concerns its own result."""

from __future__ import annotations

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from ledgerq_worker.celery.redis_results import store
from tests.support import wait


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, max_connections=2)


def test_results_are_stored_with_their_lifetime_and_published(redis_database: str):
    client, listener = _client(redis_database), _client(redis_database).pubsub(ignore_subscribe_messages=True)
    listener.subscribe("a", "b")
    wait.until(lambda: client.publish("b", "?") == 1, 10, what="it listens")
    values = [(b"a", b"1"), (b"b", "ä\r\n$5\r\n".encode())]
    assert store(client, values, expires=100) == [None] * 4
    assert client.mget("a", "b") == [value for _, value in values]
    assert 90 < client.ttl("a") <= 100
    heard: list[bytes] = []

    def both_heard() -> bool:
        message = listener.get_message(timeout=1)
        heard.extend([message["data"]] if message else [])
        return heard[-2:] == [value for _, value in values]

    wait.until(both_heard, 10, what=lambda: f"both were published; {heard}")


def test_results_without_a_lifetime_stay(redis_database: str):
    client = _client(redis_database)
    assert store(client, [(b"a", b"1")], expires=None) == [None, None]
    assert client.ttl("a") == -1


def test_a_refusal_is_told_for_its_own_result_and_the_connection_goes_on(redis_database: str):
    client = _client(redis_database)
    with client.monitor():  # a second connection is in use meanwhile
        found = store(client, [(b"a", b"1"), (b"b", b"2")], expires=-1)
    assert [one is not None for one in found] == [True, False, True, False]
    assert "invalid expire" in str(found[0])
    assert store(client, [(b"a", b"3")], expires=5) == [None, None]
    assert client.get("a") == b"3"


def test_a_connection_that_was_cut_off_is_made_anew(redis_database: str):
    client, other = _client(redis_database), _client(redis_database)
    assert store(client, [(b"a", b"1")], expires=5) == [None, None]
    own = next(
        one for one in other.client_list() if one["cmd"] == "publish" and one["db"] == redis_database.rpartition("/")[2]
    )
    other.client_kill_filter(_id=own["id"])
    assert store(client, [(b"a", b"2")], expires=5) == [None, None]
    assert client.get("a") == b"2"


def test_an_interrupted_write_leaves_no_answer_to_the_next_user_of_its_connection(redis_database: str, monkeypatch):
    client = redis.Redis.from_url(redis_database, max_connections=1)
    client.set("b", "right")
    connection = client.connection_pool.get_connection()
    client.connection_pool.release(connection)

    def struck(*_: object, **__: object) -> None:
        raise SoftTimeLimitExceeded("a limit that strikes while the answers are read")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "read_response", struck)
        with pytest.raises(SoftTimeLimitExceeded):
            store(client, [(b"a", b"1")], expires=5)
    assert client.get("b") == b"right"
