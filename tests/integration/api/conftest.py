"""The API in this process, on a free port, with a catalogue of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import api as api_support

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api import Api


@pytest.fixture
def api(database: str, redis_database: str) -> Iterator[Api]:
    """A running API with the task types of :data:`tests.support.api.CATALOGUE`."""
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as running:
        yield running


@pytest.fixture
def bare_api(database: str, redis_database: str) -> Iterator[Api]:
    """A running API with an empty catalogue."""
    with api_support.serve(database, redis_database) as running:
        yield running
