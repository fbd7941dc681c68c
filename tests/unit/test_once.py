"""What a process makes for itself is made once in it, and once more in each that is forked from it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from ledgerq_shared.process.once import OncePerProcess


def test_a_process_makes_it_once_however_many_threads_ask():
    made: list[int] = []
    all_there = threading.Barrier(8)
    own = OncePerProcess(lambda: made.append(1) or len(made))
    assert not own.is_made

    def ask(_: int) -> int:
        all_there.wait()
        return own()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {1}
    assert own.is_made
    own.forget()
    assert own() == 2


def test_a_forked_process_makes_its_own():
    own = OncePerProcess(os.getpid)
    assert own() == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if not own.is_made and own() == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert own() == os.getpid()
