"""long_running computes what it says, in steps that report and can be stopped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.celery.example_tasks import primes
from clients.celery.example_tasks.errors import InvalidOptions


class Recorder:
    """Remembers what was reported and stops the work after `steps` reports."""

    def __init__(self, steps: int = 1_000_000) -> None:
        self.percentages: list[float] = []
        self._steps = steps

    def update_progress(self, percent: float, *_: object) -> None:
        self.percentages.append(percent)

    def raise_if_cancelled(self) -> None:
        if len(self.percentages) >= self._steps:
            raise InterruptedError


@pytest.mark.parametrize(
    ("limit", "count", "largest"),
    [(0, 0, None), (1, 0, None), (2, 1, 2), (3, 2, 3), (4, 2, 3), (3_000_000, 216_816, 2_999_999)],
)
def test_primes_are_counted(limit: int, count: int, largest: int | None):
    assert primes.count_primes(limit, Recorder()) == (count, largest)


@given(limit=st.integers(0, 3000), segment=st.integers(1, 50))
def test_segments_of_any_length_give_the_same_count(limit: int, segment: int):
    expected = [n for n in range(2, limit + 1) if all(n % d for d in range(2, int(n**0.5) + 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primes, "_SEGMENT", segment)
        counted = primes.count_primes(limit, Recorder())
    assert counted == (len(expected), expected[-1] if expected else None)


def test_progress_rises_and_the_work_stops_when_cancelled():
    recorder = Recorder(steps=3)
    with pytest.raises(InterruptedError):
        primes.count_primes(10**8, recorder)
    assert recorder.percentages == sorted(set(recorder.percentages))
    assert len(recorder.percentages) == 3


@pytest.mark.parametrize("limit", [-1, primes.MAX_LIMIT + 1, 1.5, "100", True, None])
def test_a_limit_that_is_no_number_in_range_is_refused(limit: object):
    with pytest.raises(InvalidOptions):
        primes.count_primes(limit, Recorder())  # type: ignore[arg-type]
