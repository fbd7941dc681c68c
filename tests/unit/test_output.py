"""What a service writes about itself may get lost, and nothing else with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Configures logging as every service does, lets `breaks` happen to the log, and writes to it in every way.
_SERVICE = """
import logging, os, socket, sys
import structlog
from ledgerq_shared.process.logging import configure
from ledgerq_shared.settings import LogSettings

class Strange:
    def __repr__(self):
        raise ValueError("no name")

configure(LogSettings(log_format="json"), service="test")
structlog.get_logger().info("before")
{breaks}
for _ in range({times}):
    structlog.get_logger().warning("ours", text="x" * 5000)
    try:
        1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
    structlog.get_logger().error("strange", what=Strange())
    logging.getLogger("celery").error("theirs %s", Strange())
    print("printed")
    print("printed", file=sys.stderr, flush=True)
{mends}
structlog.get_logger().info("after")
sys.stdout.buffer.write(b"bytes\\n")
open("went_on", "w").close()
"""


def _service(
    folder: Path, *, breaks: str = "", mends: str = "", times: int = 3, output: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    code = _SERVICE.format(breaks=breaks, mends=mends, times=times)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, stdout=output, stderr=output, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "went_on").exists()
    return done


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(write)
    with contextlib.suppress(OSError):
        os.close(read)


def test_lines_that_can_be_written_are(tmp_path: Path):
    done = _service(tmp_path, times=1)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")] == [
        "before",
        "ours",
        "failed",
        "after",
    ]
    assert done.stdout == "printed\nbytes\n"


def test_a_log_whose_reader_has_gone_stops_nothing(tmp_path: Path):
    with _pipe() as (read, write):
        os.close(read)
        _service(tmp_path, output=write)


def test_a_full_disk_behind_the_log_stops_nothing(tmp_path: Path):
    with Path("/dev/full").open("wb") as full:
        _service(tmp_path, output=full)


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path):
    with _pipe() as (_, write):
        _service(tmp_path, output=write, times=30)


@pytest.mark.parametrize("handles", ["1, 2", "0, 1, 2"])
def test_a_log_that_was_never_open_stops_nothing(tmp_path: Path, handles: str):
    code = _SERVICE.format(breaks="assert socket.socket().fileno() > 2", mends="", times=3)
    closing = f"import os, sys\nfor handle in ({handles}): os.close(handle)\n"
    closing += "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", closing, code], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "went_on").exists()


def test_what_is_opened_under_the_number_of_a_closed_log_gets_no_line_of_it(tmp_path: Path):
    breaks = """
os.close(2)
ours, peer = socket.socketpair()
assert 2 in (ours.fileno(), peer.fileno())
other = peer if ours.fileno() == 2 else ours
other.setblocking(False)
"""
    mends = """
try:
    raise SystemExit(f"it got {other.recv(1000)}")
except BlockingIOError:
    pass
"""
    _service(tmp_path, breaks=breaks, mends=mends)


def test_the_first_line_that_can_be_written_again_says_how_many_were_lost(tmp_path: Path):
    """Nobody reads the pipe of the log for a while, then somebody does."""
    breaks = "import select\nread, write = os.pipe(); os.dup2(write, 2); sys.stderr = None\n"
    breaks += "configure(LogSettings(log_format='json'), service='test')\n"
    breaks += "while select.select([], [2], [], 0)[1]: os.write(2, b'x' * 4096)"
    mends = "while select.select([read], [], [], 0)[0]: os.read(read, 65536)\n"
    mends += "structlog.get_logger().info('again')\nopen('lines', 'wb').write(os.read(read, 65536))"
    _service(tmp_path, breaks=breaks, mends=mends, times=1)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["again", "log.lines_lost"]
    assert lines[1]["lines"] > 2


def test_a_field_that_json_cannot_hold_costs_no_line(tmp_path: Path):
    breaks = """
import structlog
round = []
round.append(round)
structlog.get_logger().info("odd", nan=float("nan"), keys={(1, 2): 3}, round=round, when=object, 名="好\\x85")
"""
    done = _service(tmp_path, breaks=breaks, times=0)
    [line] = [json.loads(line) for line in done.stderr.splitlines() if "odd" in line]
    assert list(line)[:2] == ["event", "level"]
    assert (line["nan"], line["名"], line["keys"]) == ("nan", "好\x85", "{(1, 2): 3}")
    assert "好" in done.stderr


def test_an_interruption_that_strikes_while_a_line_is_made_is_not_lost_with_it(tmp_path: Path):
    """A soft time limit is an exception that a signal raises wherever the task is, and that may be in its log."""
    breaks = """
class Interruption(Exception):
    pass

class Struck:
    def __repr__(self):
        raise Interruption

configure(LogSettings(log_format="json"), service="test", prints=dict, interruptions=(Interruption,))
structlog.contextvars.bind_contextvars(struck=Struck())
ways = [
    lambda: print("text"),
    lambda: print("text", file=sys.stderr),
    lambda: structlog.get_logger().info("text"),
    lambda: logging.getLogger("theirs").info("text"),
]
for way in ways:
    try:
        way()
    except Interruption:
        pass
    else:
        raise SystemExit("it is lost")
structlog.contextvars.clear_contextvars()
"""
    _service(tmp_path, breaks=breaks, times=0)
