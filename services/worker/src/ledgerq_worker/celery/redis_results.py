"""Stores results in Redis and publishes them to the clients that wait, a batch in one write.

A pipeline of redis-py does the same, and costs three times as much: it takes each command apart and puts its parts
together. The commands are always the same two here, and share their key and value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import redis
from redis.exceptions import ResponseError

Refused = ResponseError | None


def store(client: redis.Redis, values: Sequence[tuple[bytes, bytes]], *, expires: int | None) -> list[Refused]:
    """Store and publish each value under its key.

    Args:
        values: keys, which are channels, too, and what they get.
        expires: after how many seconds Redis forgets them; None or 0: never.

    Returns:
        For each command, two for each value, the error with which Redis refused it; None: it did not.

    Raises:
        RedisError: Redis is away. Some of the values may be there.
    """
    commands = b"".join(_commands(values, expires))
    connection: Any = client.connection_pool.get_connection()
    try:
        exchange = partial(_exchange, connection, commands, 2 * len(values))
        found: list[Refused] = connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
        return found
    except BaseException:
        connection.disconnect()  # answers that nobody has read would be the next user's
        raise
    finally:
        client.connection_pool.release(connection)


def _exchange(connection: Any, commands: bytes, answers: int) -> list[Refused]:
    connection.send_packed_command((commands,))
    return [_answer(connection) for _ in range(answers)]


def _answer(connection: Any) -> Refused:
    try:
        connection.read_response()
    except ResponseError as refused:
        return refused
    return None


def _commands(values: Sequence[tuple[bytes, bytes]], expires: int | None) -> list[bytes]:
    """In Redis' protocol: a command is the number of its parts, then each part after its length."""
    if expires:
        begin, lifetime = b"*4\r\n$5\r\nSETEX\r\n", _part(b"%d" % expires)
    else:
        begin, lifetime = b"*3\r\n$3\r\nSET\r\n", b""
    found: list[bytes] = []
    for key, value in values:
        key_part, value_part = _part(key), _part(value)
        found += (begin, key_part, lifetime, value_part, b"*3\r\n$7\r\nPUBLISH\r\n", key_part, value_part)
    return found


def _part(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)
