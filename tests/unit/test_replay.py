"""Histories that the protocol allows, and ones that somebody has tampered with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ledgerq_shared.events import Event
from ledgerq_shared.states import State
from tests.support import replay

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "worker:a", "worker:b"


def history(*steps: tuple) -> list[Event]:
    """Events of ``(kind, attempt, actor[, data])``, numbered, a second apart."""
    return [
        Event(number, BEGIN + timedelta(seconds=number), kind, attempt, actor, data[0] if data else None)
        for number, (kind, attempt, actor, *data) in enumerate(steps, 1)
    ]


SUBMITTED = ("submitted", 0, "api")
BEGUN = [("dispatched", 0, A), ("started", 1, A)]
BEGUN_AGAIN = [("dispatched", 1, B), ("started", 2, B)]
RECOVERED = ("recovered", 1, "maintenance", {"claim": 7})

ALLOWED = {
    "it succeeds": ([SUBMITTED, *BEGUN, ("succeeded", 1, A)], State.SUCCESS, []),
    "it waits": ([SUBMITTED], State.PENDING, ["held"]),
    "it is claimed": ([SUBMITTED], State.PENDING, ["claim"]),
    "a person cancels it": ([SUBMITTED, ("revoked", 0, "api")], State.REVOKED, []),
    "it is lost and runs again elsewhere": (
        [SUBMITTED, *BEGUN, RECOVERED, *BEGUN_AGAIN, ("late_write_refused", 2, A, {"claim": 7}), ("succeeded", 2, B)],
        State.SUCCESS, [],
    ),
    "it is asked to end, begins all the same, and succeeds": (
        [SUBMITTED, ("cancel_requested", 0, "api"), *BEGUN, ("succeeded", 1, A)], State.SUCCESS, [],
    ),
    "what was cancelled is not begun": (
        [SUBMITTED, ("cancel_requested", 0, "api"), ("revoked", 0, A, {"reason": "cancelled"})], State.REVOKED, [],
    ),
    "what was cancelled asks for another run, and ends": (
        [SUBMITTED, *BEGUN, ("cancel_requested", 1, "api"), ("retried", 1, A), ("revoked", 1, A)], State.REVOKED, [],
    ),
    "a person runs it again": (
        [SUBMITTED, *BEGUN, ("failed", 1, A), ("resubmitted", 1, "api"), *BEGUN_AGAIN], State.STARTED, ["claim"],
    ),
}  # fmt: skip

REFUSED = {
    "it begins without having been submitted": ([*BEGUN], State.STARTED, ["claim"]),
    "it is recorded twice": ([SUBMITTED, *BEGUN, ("succeeded", 1, A), ("succeeded", 1, A)], State.SUCCESS, []),
    "it begins twice under one claim": ([SUBMITTED, *BEGUN, ("started", 2, A)], State.STARTED, ["claim"]),
    "it begins elsewhere while it runs": ([SUBMITTED, *BEGUN, *BEGUN_AGAIN], State.STARTED, ["claim"]),
    "another worker than the one that runs it records its end": (
        [SUBMITTED, *BEGUN, ("succeeded", 1, B)], State.SUCCESS, [],
    ),
    "another worker reports": ([SUBMITTED, *BEGUN, ("progress", 1, B)], State.STARTED, ["claim"]),
    "it begins after it was revoked": ([SUBMITTED, ("revoked", 0, "api"), *BEGUN], State.STARTED, ["claim"]),
    "what was cancelled is taken back and waits again": (
        [SUBMITTED, *BEGUN, ("cancel_requested", 1, "api"), RECOVERED], State.PENDING, ["ready"],
    ),
    "what was cancelled asks for another run, and gets one": (
        [SUBMITTED, *BEGUN, ("cancel_requested", 1, "api"), ("retried", 1, A), *BEGUN_AGAIN], State.STARTED, ["claim"],
    ),
    "what was cancelled waits": ([SUBMITTED, ("cancel_requested", 0, "api")], State.PENDING, ["ready"]),
    "what waits is asked to end by whoever has it": (
        [SUBMITTED, ("revoked", 0, "api"), ("cancel_requested", 0, "api")], State.REVOKED, [],
    ),
    "a success runs again": (
        [SUBMITTED, *BEGUN, ("succeeded", 1, A), ("resubmitted", 1, "api")], State.PENDING, ["ready"],
    ),
    "an attempt is left out": ([SUBMITTED, ("dispatched", 0, A), ("started", 2, A)], State.STARTED, ["claim"]),
    "it is taken back although nothing of it had begun": ([SUBMITTED, ("recovered", 0, A)], State.PENDING, ["ready"]),
    "it runs and stands in no claim": ([SUBMITTED, *BEGUN], State.STARTED, ["ready"]),
    "it has ended and still waits": ([SUBMITTED, *BEGUN, ("succeeded", 1, A)], State.SUCCESS, ["ready"]),
    "it is unfinished and stands nowhere": ([SUBMITTED], State.PENDING, []),
    "its row says otherwise": ([SUBMITTED, *BEGUN, ("succeeded", 1, A)], State.FAILURE, []),
    "it is taken back twice from one claim": (
        [SUBMITTED, *BEGUN, RECOVERED, *BEGUN_AGAIN, ("recovered", 2, "maintenance", {"claim": 7})],
        State.PENDING, ["ready"],
    ),
    "it is taken back from a claim whose writes were refused before": (
        [SUBMITTED, *BEGUN, ("late_write_refused", 1, A, {"claim": 7}), RECOVERED], State.PENDING, ["ready"],
    ),
    "an event of a kind that does not exist": ([SUBMITTED, ("forgotten", 0, "api")], State.PENDING, ["ready"]),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "state", "places"), ALLOWED.values(), ids=ALLOWED)
def test_a_history_that_the_protocol_allows_is_allowed(steps, state, places):
    assert replay.problems_with(history(*steps), state, places) == []


@pytest.mark.parametrize(("steps", "state", "places"), REFUSED.values(), ids=REFUSED)
def test_a_history_that_was_tampered_with_is_refused(steps, state, places):
    assert replay.problems_with(history(*steps), state, places)
