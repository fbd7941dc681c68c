"""Each error of Redis asks for one of four things; what redis-py makes of it does not hide which."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_faults import TABLE, Row, fault_of

if TYPE_CHECKING:
    from collections.abc import Iterator

#: As servers word them, by how they begin.
_WORDS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "NOAUTH": "NOAUTH Authentication required.",
    "ERR max number of clients": "ERR max number of clients reached",
    "ERR invalid password": "ERR invalid password",
    "WRONGTYPE": "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOPERM": "NOPERM this user has no permissions to access one of the keys used as arguments",
    "MOVED": "MOVED 3999 127.0.0.1:6381",
    "ASK": "ASK 3999 127.0.0.1:6381",
    "ERR": "ERR unknown command 'BLMOVE', with args beginning with: ",
}


class _Refusing:
    """A server that answers every command but those that open a connection with one error."""

    def __init__(self) -> None:
        self.text = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as commands:
            while first := commands.readline():
                words = [commands.read(int(commands.readline()[1:]) + 2) for _ in range(int(first[1:]))]
                answer = "+OK" if words[0] == b"CLIENT\r\n" else f"-{self.text}"
                client.sendall(f"{answer}\r\n".encode())


@pytest.fixture(scope="module")
def server() -> Iterator[_Refusing]:
    made = _Refusing()
    yield made
    made.close()


@pytest.fixture
def client(server: _Refusing) -> redis.Redis:
    return redis.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.code)
def test_an_error_asks_for_what_its_row_says(server: _Refusing, client: redis.Redis, row: Row):
    server.text = _WORDS.get(row.code, f"{row.code} and more words")
    with pytest.raises(redis.RedisError) as plain:
        client.get("key")
    assert fault_of(plain.value) is row.fault
    if isinstance(plain.value, redis.ResponseError):  # the others end a whole pipeline
        [piped] = client.pipeline(transaction=False).llen("key").execute(raise_on_error=False)
        assert fault_of(piped) is row.fault
    with pytest.raises(redis.RedisError) as annotated:
        client.pipeline(transaction=False).llen("key").execute()
    assert fault_of(annotated.value) is row.fault
    wrapped = OperationalError("kombu's words")
    wrapped.__cause__ = plain.value
    assert fault_of(wrapped) is row.fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (redis.ConnectionError("refused"), Fault.RECONNECT),
        (redis.TimeoutError("late"), Fault.RECONNECT),
        (ConnectionResetError(), Fault.RECONNECT),
        (OperationalError("kombu has no cause"), Fault.RECONNECT),
        (redis.InvalidResponse("Protocol Error"), Fault.RECONNECT),
        (redis.DataError("Invalid input of type: 'NoneType'"), Fault.REFUSE),
        (redis.WatchError("Watched variable changed."), Fault.REPEAT),
        (redis.ResponseError("NEWSTATE of a release to come"), Fault.REPEAT),
        (redis.ResponseError("words without a word in capitals"), Fault.MISTAKE),
        (TypeError("ours"), Fault.MISTAKE),
    ],
    ids=str,
)
def test_what_is_not_the_servers_word_is_the_connections_or_ours(error: Exception, fault: Fault):
    assert fault_of(error) is fault


def test_no_row_stands_behind_another_of_the_same_beginning():
    codes = [row.code for row in TABLE]
    assert len(set(codes)) == len(codes)
