"""Fixtures of the chaos tests: a plant on this test's own database, short or long."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support.plant import Plant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack


@dataclass(frozen=True)
class Scale:
    """How long things take: the short form within `make test`, or the long one of `make test-chaos`."""

    is_long: bool
    #: A node's lease, in seconds. The long form has the product's own.
    lease: float
    #: How long the storm of random faults goes on, in seconds.
    storm: float
    seed: int

    def of(self, short: int, long: int) -> int:
        """A quantity."""
        return long if self.is_long else short


@pytest.fixture(scope="session")
def scale() -> Scale:
    """From CHAOS_MINUTES and CHAOS_SEED, which `make test-chaos` sets."""
    minutes = float(os.environ.get("CHAOS_MINUTES") or 0)
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3), "big"))
    return Scale(bool(minutes), 10.0 if minutes else 2.0, minutes * 60 or 20.0, seed)


@pytest.fixture
def plant(stack: Stack, database: str, redis_database: str, scale: Scale) -> Iterator[Plant]:
    """Nothing runs yet."""
    made = Plant(stack, database, redis_database, scale.lease)
    yield made
    made.close()
