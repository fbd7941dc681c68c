"""For how long a client is waited for, and what happens then."""

from __future__ import annotations

import pytest

from ledgerq_shared.errors import RequestTimedOut
from ledgerq_shared.front_door import Limits
from ledgerq_shared.front_door.times import End, Part, end_of_wait

_LIMITS = Limits(head_seconds=1, body_seconds=2, linger_seconds=3)


@pytest.mark.parametrize(
    ("part", "is_begun", "seconds", "end"),
    [
        (Part.HEAD, False, 1, End.CLOSE),
        (Part.HEAD, True, 1, "head"),
        (Part.BODY, True, 2, "body"),
        (Part.REST, True, 3, End.ABORT),
        (Part.REST, False, 3, End.ABORT),
    ],
)
def test_a_client_that_is_late_is_told_why_if_it_has_asked(part: Part, is_begun: bool, seconds: float, end: End | str):
    assert end_of_wait(part, seconds, _LIMITS, is_begun=is_begun) is None
    found = end_of_wait(part, seconds + 0.001, _LIMITS, is_begun=is_begun)
    if isinstance(found, RequestTimedOut):
        assert found.detail == f"The request's {end} did not arrive within {seconds} s."
    else:
        assert found is end


def test_nothing_is_waited_for_while_a_request_is_worked_on():
    assert end_of_wait(Part.NOTHING, 1e9, _LIMITS, is_begun=True) is None
