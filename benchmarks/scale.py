"""A ledger of millions of tasks beside one of ten thousand: `python -m benchmarks.scale --rows 10000000 --folder …`.

Both are in one server, behind an API process each. Every figure is taken from the small and the large one in turn, request
by request. Nothing of this runs with the other benchmarks: it takes gigabytes and, with ten million, most of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg2

from benchmarks import page, report
from benchmarks.scale_ledger import (
    BYTES_A_TASK,
    BYTES_BESIDE,
    OTHER_QUEUE,
    OTHER_TYPE,
    QUEUE,
    TAG,
    TASK_TYPE,
    Ledger,
    Use,
    build,
)
from ledgerq_shared.embedded import EmbeddedServers
from ledgerq_shared.embedded.postgres import EmbeddedPostgres
from ledgerq_shared.process.logging import configure
from ledgerq_shared.settings import LogSettings
from tests.support import databases
from tests.support.http import request as http_request
from tests.support.stack import Stack

_SMALL = 10_000
_ROUNDS = 3
_REQUESTS = 40
_CLAIMERS = 200
_CLAIM = 50
#: How much longer the large ledger may take.
_GOAL = 1.5
#: A task is waiting for every ten that are finished.
_WAITING_SHARE = 10

_STATES = ("PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED")

#: What reads of one ledger: takes the figure once.
Take = Callable[["Side"], None]


@dataclass
class Side:
    """A ledger with its API and its monitor, whose figures are never kept."""

    ledger: Ledger
    url: str
    monitor_url: str
    use: Use
    ids: list[str] = field(default_factory=list)
    cursors: dict[str, str] = field(default_factory=dict)
    taken: int = 0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)

    def get(self, path: str, **query: object) -> bytes:
        """The body of an answer that must be 200; one connection for all."""
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            self._connection.request("GET", target)
            answer = self._connection.getresponse()
        except http.client.RemoteDisconnected:  # it was idle for too long
            self._connection.request("GET", target)
            answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, f"{path} {query}: {answer.status} {body[:500]!r}"
        return body

    def scrape(self) -> None:
        """All of the monitor's collectors, each anew; one that failed would make the scrape look quick."""
        answer = http_request("GET", f"{self.monitor_url}/metrics", timeout=120)
        assert answer.status == 200
        up = re.findall(rb"^ledgerq_monitor_collector_up{.*} (.*)$", answer.body, re.MULTILINE)
        assert set(up) == {b"1.0"}, answer.body

    def find_deep_cursor(self, name: str, query: dict[str, object]) -> None:
        """Remember where the 1,000th page of ten begins (the last page, if there are fewer)."""
        cursor: dict[str, object] = {}
        for _ in range(10):
            page = json.loads(self.get("/tasks/", page_size=999, **query, **cursor))
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
            self.cursors[name] = page["next_cursor"]


def main() -> None:
    """Build, measure, compare, delete."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--rows", type=int, required=True, help="finished tasks of the large ledger")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the servers put their data; deleted afterwards"
    )
    parser.add_argument("--open-seconds", type=float, default=300.0, help="how long another transaction is left open")
    parser.add_argument("--page", action="store_true", help="write the table into docs/reference/performance.md")
    asked = parser.parse_args()
    if asked.rows < _SMALL:
        parser.error(f"--rows: at least {_SMALL:,}")
    configure(LogSettings(log_level="error"), service="bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _check_disk(asked.folder, asked.rows)
    with _sides(asked.folder, asked.rows) as (small, big):
        _run(small, big, asked.open_seconds)
    if asked.page:
        page.write(["scale"])


def _check_disk(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    need = (rows + rows // _WAITING_SHARE) * BYTES_A_TASK + BYTES_BESIDE
    free = shutil.disk_usage(folder).free
    print(
        f"{rows:,} finished and {rows // _WAITING_SHARE:,} waiting tasks need about {need / 1e9:.1f} GB in {folder}; "
        f"{free / 1e9:.1f} GB are free."
    )
    if free < need:
        sys.exit(f"Not enough room: free {(need - free) / 1e9:.1f} GB more, name another DIR, or ask for fewer ROWS.")


@contextlib.contextmanager
def _sides(folder: Path, rows: int) -> Iterator[tuple[Side, Side]]:
    servers = EmbeddedServers(folder / "servers", durable=True)
    servers.postgres = EmbeddedPostgres(folder / "servers", max_connections=_CLAIMERS + 60)
    services = folder / "services"
    services.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with contextlib.ExitStack() as exits:
        exits.callback(shutil.rmtree, services, ignore_errors=True)
        exits.callback(servers.remove)
        urls = servers.start()
        stack = Stack(
            services, f"bench-scale-{folder.name}", {"LEDGERQ_LOG_LEVEL": "warning", "REDIS_URL": urls.redis_url}
        )
        exits.callback(stack.close)
        sides = []
        for name, finished in (("small", _SMALL), ("large", rows)):
            ledger = Ledger(name, databases.create(urls.database_url), finished, finished // _WAITING_SHARE)
            databases.migrate(ledger.url)
            begun = time.monotonic()
            build(ledger)
            databases.execute(ledger.url, "VACUUM (ANALYZE)")
            [(size,)] = databases.rows(ledger.url, "SELECT pg_database_size(current_database())")
            print(f"{name}: built in {time.monotonic() - begun:,.0f} s, {int(str(size)) / 1e9:.2f} GB", flush=True)
            stores = {"DATABASE_URL": ledger.url, "REDIS_URL": databases.on_server(urls.redis_url, str(len(sides)))}
            stack.maintenance(**stores)
            monitor = stack.monitor(**stores, LEDGERQ_MONITOR_CACHE_SECONDS="0", LEDGERQ_MONITOR_TIMEOUT="60")
            side = Side(ledger, stack.api(**stores).url, monitor.url, Use(ledger))
            exits.callback(side.use.close)
            _use(side)
            sides.append(side)
        yield sides[0], sides[1]


def _use(side: Side) -> None:
    """Real use on top of what SQL made: some run, some wait to be tried again, some come and go."""
    side.use.begin(side.use.claim(20, queue=OTHER_QUEUE))
    side.use.retry(side.use.claim(20, queue=OTHER_QUEUE))
    turns = side.use.rounds(50)
    for _ in range(20):
        next(turns)
    found = databases.rows(
        side.ledger.url,
        # (Each moment is drawn before it is looked for: with random() in the condition no index would serve.)
        "WITH drawn AS MATERIALIZED (SELECT (lpad(to_hex((extract(epoch FROM now() - random() * n * interval '20 minutes') "
        "* 1000)::bigint), 12, '0') || repeat('0', 20))::uuid AS id FROM generate_series(1, 500) AS n) "
        "SELECT t.id::text FROM drawn CROSS JOIN LATERAL "
        "(SELECT id FROM task WHERE id >= drawn.id ORDER BY id LIMIT 1) AS t",
    )
    side.ids = [str(row[0]) for row in found]


def _run(small: Side, big: Side, open_seconds: float) -> None:
    figures = _figures(small, big)
    rows = _compare("quiet", figures, small, big)
    with _transactions_left_open(small, big):
        _use_for(open_seconds, small, big)
        rows += _compare(f"transaction open for {open_seconds:g} s", figures, small, big)
    rows += _compare_claimers(small, big, {name: figures[name] for name in ("status", "list", "list status=SUCCESS")})
    report.write("scale", "ms, large ledger", "small ledger", rows)
    slower = [f"{row.name} {row.ratio()}" for row in rows if statistics.median(row.ratios) > _GOAL]
    print(f"More than {_GOAL} × the small ledger: {'; '.join(slower) or 'nothing'}.")


def _figures(small: Side, big: Side) -> dict[str, Take]:
    middle = datetime.now(UTC) - timedelta(days=3.5)
    filters: dict[str, dict[str, object]] = {
        "list": {},
        "list task_type (short name)": {"task_type": OTHER_TYPE.rpartition(".")[2]},
        "list task_type": {"task_type": TASK_TYPE},
        **{f"list status={state}": {"status": state} for state in _STATES},
        "list queue": {"queue": OTHER_QUEUE},
        "list tag": {"tag": TAG},
        "list submitted_after": {"submitted_after": middle.isoformat()},
        "list submitted_before": {"submitted_before": middle.isoformat()},
        "list status=SUCCESS, queue": {"status": "SUCCESS", "queue": QUEUE},
    }
    figures: dict[str, Take] = {"status": _take_status}
    for name, query in filters.items():
        figures[name] = lambda side, query=query: side.get("/tasks/", **query)  # type: ignore[misc]
        for side in (small, big):
            side.find_deep_cursor(name, query)
        if name in small.cursors and name in big.cursors:
            figures[f"{name}, page 1,000"] = lambda side, name=name, query=query: side.get(  # type: ignore[misc]
                "/tasks/", cursor=side.cursors[name], **query
            )
    counted = {"page_size": 1, "task_type": TASK_TYPE, "status": "FAILURE", "queue": QUEUE}
    figures["exact count of type, status, queue"] = lambda side: side.get("/tasks/", **counted)
    figures["scrape of the monitor"] = Side.scrape
    return figures


def _take_status(side: Side) -> None:
    side.taken += 1
    side.get(f"/tasks/{side.ids[side.taken % len(side.ids)]}/status")


def _compare(title: str, figures: dict[str, Take], small: Side, big: Side) -> list[report.Row]:
    rows = [_row(name, figures[name], small, big) for name in figures]
    rows.append(_claim_row(small, big))
    return _shown(title, rows)


def _row(name: str, take: Take, small: Side, big: Side) -> report.Row:
    row = report.Row(name)
    for _ in range(_ROUNDS):
        times: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(_REQUESTS):
            for side in (small, big):
                begun = time.perf_counter()
                take(side)
                times[side.ledger.name].append(time.perf_counter() - begun)
        _add_round(row, times["small"], times["large"])
    return row


def _claim_row(small: Side, big: Side) -> report.Row:
    """Only the claim is timed; what was claimed ends, and as many are submitted."""
    row = report.Row(f"claim of {_CLAIM}")
    for _ in range(_ROUNDS):
        times: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(_REQUESTS):
            for side in (small, big):
                side.use.submit(_CLAIM)
                begun = time.perf_counter()
                tasks = side.use.claim(_CLAIM)
                times[side.ledger.name].append(time.perf_counter() - begun)
                assert len(tasks) == _CLAIM
                side.use.end(tasks)
        _add_round(row, times["small"], times["large"])
    return row


def _add_round(row: report.Row, small: list[float], big: list[float]) -> None:
    before, after = statistics.median(small) * 1e3, statistics.median(big) * 1e3
    row.rounds.append(round(after, 3))
    row.ratios.append(round(after / before, 3))
    row.notes = f"small {before:.2f} ms"
    if len(row.rounds) == _ROUNDS:
        print(f"{row.name}: {row.middle()} ms, {row.ratio()} × {before:.2f} ms", flush=True)


def _shown(title: str, rows: list[report.Row]) -> list[report.Row]:
    report.show(f"large beside small ledger, {title}: medians", "ms", "small", rows)
    for row in rows:
        row.name = f"{title}: {row.name}"
    return rows


@contextlib.contextmanager
def _transactions_left_open(*sides: Side) -> Iterator[None]:
    """As a dump or a forgotten session does: nothing that dies meanwhile can be cleaned away."""
    connections = [psycopg2.connect(side.ledger.url) for side in sides]
    for connection in connections:
        connection.set_session(isolation_level="REPEATABLE READ")
        connection.cursor().execute("SELECT count(*) FROM worker")
    yield
    for connection in connections:
        connection.close()


def _use_for(seconds: float, *sides: Side) -> None:
    """About two hundred tasks a second come and go in each."""
    turns = [side.use.rounds(50) for side in sides]
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        for turn in turns:
            next(turn)
        time.sleep(max(0.0, now + 0.25 - time.monotonic()))


def _compare_claimers(small: Side, big: Side, figures: dict[str, Take]) -> list[report.Row]:
    """Two hundred slots that claim two tasks, end them, and submit two; meanwhile somebody reads."""
    row = report.Row("claim of 2")
    reads = {name: report.Row(name) for name in figures}
    for _ in range(_ROUNDS):
        found = [_with_claimers(side, figures) for side in (small, big)]
        _add_round(row, found[0].pop("claim"), found[1].pop("claim"))
        for name, read in reads.items():
            _add_round(read, found[0][name], found[1][name])
    return _shown(f"{_CLAIMERS} claimers", [row, *reads.values()])


def _with_claimers(side: Side, figures: dict[str, Take]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"claim": [], **{name: [] for name in figures}}
    stop = threading.Event()

    def work() -> None:
        use = Use(side.ledger)
        while not stop.is_set():
            use.submit(2)
            begun = time.perf_counter()
            tasks = use.claim(2)
            times["claim"].append(time.perf_counter() - begun)
            use.end(tasks)
        use.close()

    threads = [threading.Thread(target=work) for _ in range(_CLAIMERS)]
    for thread in threads:
        thread.start()
    for name, take in figures.items():
        for _ in range(_REQUESTS):
            begun = time.perf_counter()
            take(side)
            times[name].append(time.perf_counter() - begun)
    stop.set()
    for thread in threads:
        thread.join()
    return times


if __name__ == "__main__":
    main()
