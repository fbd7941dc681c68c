"""What came of it, as figures and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.hostile.honest import Sample
    from tests.hostile.hour import Course
    from tests.hostile.memory import Memory
    from tests.hostile.targets import Target

_MIB = 1024 * 1024


def share(values: list[float], part: float) -> float:
    """The quantile, in seconds; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Submits:
    """Honest submits of a part of the run."""

    accepted: list[float]
    #: When those were begun.
    begun: list[float]
    #: Others than 202, by status and code.
    refused: Counter[str]
    #: Refusals that did not say when to come again, and connections that were closed.
    rude: Counter[str]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Submits:
        """Of some samples."""
        accepted, begun, refused, rude = [], [], Counter[str](), Counter[str]()
        for one in samples:
            name = f"{one.status} {one.code}".strip()
            if one.status == 202:
                accepted.append(one.ended - one.begun)
                begun.append(one.begun)
            else:
                refused[name] += 1
                if one.status != 503 or not one.is_polite:
                    rude[name] += 1
        return cls(accepted, begun, refused, rude)

    def row(self) -> str:
        """For the table."""
        p50, p99 = (f"{1000 * share(self.accepted, part):.0f}" for part in (0.5, 0.99))
        worst = f"{1000 * max(self.accepted, default=0):.0f}"
        refused = ", ".join(f"{number} × {name}" for name, number in sorted(self.refused.items())) or "–"
        return f"{len(self.accepted)} | {p50} | {p99} | {worst} | {refused}"


@dataclass(frozen=True)
class Parts:
    """The honest submits by what was going on while they were answered."""

    quiet: Submits
    #: Attacks, while both stores were there.
    hostile: Submits
    without_postgres: Submits
    without_redis: Submits


def divide(samples: list[Sample], course: Course) -> Parts:
    """By the course: a submit that overlaps an outage counts for it."""
    quiet, hostile, postgres, redis = [], [], [], []
    for one in samples:
        met = {outage.what for outage in course.outages if one.begun < outage.ready and one.ended > outage.begun}
        if met - {"Redis"}:
            postgres.append(one)
        elif met:
            redis.append(one)
        elif course.quiet[0] <= one.begun and one.ended <= course.quiet[1]:
            quiet.append(one)
        elif one.ended >= course.hostile[0] and one.begun <= course.hostile[1]:
            hostile.append(one)
    return Parts(*(Submits.of(part) for part in (quiet, hostile, postgres, redis)))


def table(target: Target, course: Course, parts: Parts, memory: Memory, more: dict[str, object]) -> str:
    """All figures, as Markdown."""
    return "\n".join(
        [
            f"Against {target.name}: {course.hostile[1] - course.hostile[0]:.0f} s of hostility.",
            "",
            "| honest submits | 202 | p50, ms | p99, ms | longest, ms | refused |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            f"| quiet | {parts.quiet.row()} |",
            f"| under attack, both stores there | {parts.hostile.row()} |",
            f"| PostgreSQL away, or its disk full | {parts.without_postgres.row()} |",
            f"| Redis away | {parts.without_redis.row()} |",
            "",
            *_attacks(course, parts.hostile),
            "",
            *_faults(course),
            "",
            "| figure | |",
            "| --- | ---: |",
            *(f"| {name} | {value} |" for name, value in _others(course, memory, more).items()),
        ]
    )


def _attacks(course: Course, submits: Submits) -> Iterator[str]:
    yield "| attack | stays | submits meanwhile: p99, ms | what came of it |"
    yield "| --- | ---: | ---: | --- |"
    for name, tally in course.tallies.items():
        outcomes = ", ".join(f"{number} × {outcome}" for outcome, number in tally.most_common(6))
        yield f"| {name} | {course.stays[name]} | {1000 * share(_meanwhile(course, submits, name), 0.99):.0f} | {outcomes} |"


def _meanwhile(course: Course, submits: Submits, name: str) -> list[float]:
    """Seconds of the submits that began while this attack stayed. Others stayed at the same time."""
    stays = [(begun, ended) for one, begun, ended in course.visits if one == name]
    return [
        took
        for at, took in zip(submits.begun, submits.accepted, strict=True)
        if any(begun <= at <= ended for begun, ended in stays)
    ]


def _faults(course: Course) -> Iterator[str]:
    yield "| fault | times | longest until `/readyz` was green after it was put right, s |"
    yield "| --- | ---: | ---: |"
    took: dict[str, list[float]] = {}
    for one in course.outages:
        took.setdefault(f"{one.what} {one.how}", []).append(one.ready - one.righted)
    for name, values in sorted(took.items()):
        yield f"| {name} | {len(values)} | {max(values):.1f} |"


def _others(course: Course, memory: Memory, more: dict[str, object]) -> dict[str, object]:
    most = max(memory.most.values(), default=0) / _MIB
    return {
        "most memory of an API process (RSS), MiB": f"{most:.0f}",
        "`/readyz` green after the last attack, s": f"{course.ready_after:.1f}",
        **more,
    }
