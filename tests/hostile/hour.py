"""The order of it all, by a seed: quiet first, then attacks and faults in a mixed order, then quiet again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.hostile import faults
from tests.hostile.attacks.catalogue import ATTACKS
from tests.support import http

if TYPE_CHECKING:
    from tests.hostile.faults import Outage
    from tests.hostile.targets import Target

#: Attacks at a time.
_AT_ONCE = 3
#: What needs longer than one stay to come to its size.
_LONGER = {"5,000 streams": 2.0}
#: An attack's last requests have ended this many seconds after its stay: they wait up to 80 s for an answer.
_ENDS_WITHIN = 150.0


@dataclass(frozen=True)
class Plan:
    """How long things take, in seconds."""

    quiet: float
    hostile: float
    #: One stay of an attack.
    stay: float
    #: A store is away for so long.
    away: float
    #: Between two faults.
    between: float
    #: Tasks that wait in a queue that nobody serves, for lists and streams.
    waiting: int
    seed: int
    is_long: bool = False


@dataclass
class Course:
    """What happened."""

    quiet: tuple[float, float] = (0.0, 0.0)
    hostile: tuple[float, float] = (0.0, 0.0)
    #: What each attack counted.
    tallies: dict[str, Counter[str]] = field(default_factory=dict)
    stays: Counter[str] = field(default_factory=Counter)
    #: When each stay began and ended, of the monotonic clock; an attack's last requests may outlast its stay.
    visits: list[tuple[str, float, float]] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    #: Seconds from the end of the last attack until the API was ready.
    ready_after: float = 0.0


def prepare(target: Target, plan: Plan) -> None:
    """Have tasks wait."""
    headers = {"authorization": f"Bearer {target.attacker}"} if target.attacker else {}
    one = {"task_type": "hostile_tasks.work", "task_parameters": {"number": 0}, "queue": "nobody"}
    for first in range(0, plan.waiting, 10_000):
        body = {"tasks": [one] * min(10_000, plan.waiting - first)}
        answer = http.request("POST", f"{target.url}/tasks/submit/batch", body, headers=headers, timeout=120)
        assert answer.status == 202, answer.body[:300]


def run(target: Target, plan: Plan) -> Course:
    """All of it."""
    course, dice = Course(), random.Random(plan.seed)
    begun = time.monotonic()
    time.sleep(plan.quiet)
    course.quiet = begun, time.monotonic()
    begun = time.monotonic()
    ended = threading.Event()
    failures: list[BaseException] = []

    def strike() -> None:
        try:
            _strike(target, plan, random.Random(plan.seed + 1), course, ended)
        except BaseException as error:
            failures.append(error)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        _attack(target, plan, dice, course, begun + plan.hostile)
    finally:
        ended.set()
        striker.join()
    if failures:
        raise failures[0]
    course.hostile = begun, time.monotonic()
    faults.ready(target, "after the last attack")
    course.ready_after = time.monotonic() - course.hostile[1]
    return course


def _attack(target: Target, plan: Plan, dice: random.Random, course: Course, until: float) -> None:
    # The last one is taken first: what needs long must not be what everybody waits for at the end.
    bag = sorted(ATTACKS, key=lambda name: (name in _LONGER, dice.random()))
    running: dict[str, subprocess.Popen[str]] = {}
    late: dict[str, float] = {}
    try:
        while running or time.monotonic() < until or len(course.stays) < len(ATTACKS):
            for name, process in list(running.items()):
                if process.poll() is not None:
                    _count(course, name, running.pop(name))
                else:
                    assert time.monotonic() < late[name], f"the attack {name} does not end"
            wants_more = time.monotonic() < until or len(course.stays) < len(ATTACKS)
            if wants_more and len(running) < _AT_ONCE:
                bag = bag or dice.sample(list(ATTACKS), len(ATTACKS))
                name = bag.pop()
                if name not in running:
                    running[name] = _begin(target, plan, name, dice.randrange(1 << 30), course.stays[name])
                    course.stays[name] += 1
                    stay = plan.stay * _LONGER.get(name, 1.0)
                    course.visits.append((name, time.monotonic(), time.monotonic() + stay))
                    late[name] = time.monotonic() + stay + _ENDS_WITHIN
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def _begin(target: Target, plan: Plan, name: str, seed: int, round_: int) -> subprocess.Popen[str]:
    parts = urlsplit(target.url)
    seconds = plan.stay * _LONGER.get(name, 1.0)
    arguments = (name, str(parts.hostname), str(parts.port), str(seconds), str(seed), str(round_))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.attacks", *arguments],
        env={**os.environ, "HOSTILE_KEY": target.attacker},
        stdout=subprocess.PIPE,
        text=True,
    )


def _count(course: Course, name: str, process: subprocess.Popen[str]) -> None:
    written, _ = process.communicate()
    assert process.returncode == 0, f"the attack {name} ended with {process.returncode}"
    tally = course.tallies.setdefault(name, Counter())
    for outcome, number in json.loads(written).items():
        tally[outcome] = max(tally[outcome], number) if outcome == "most at once" else tally[outcome] + number


def _strike(target: Target, plan: Plan, dice: random.Random, course: Course, ended: threading.Event) -> None:
    """Every fault once, then whatever the dice say, until the attacks end."""
    every = faults.names(target)
    bag = dice.sample(every, len(every))
    while bag or not ended.is_set():
        ended.wait(plan.between)
        if not bag and ended.is_set():
            return
        what, how = bag.pop() if bag else dice.choice(every)
        course.outages.append(faults.strike(target, what, how, plan.away))
