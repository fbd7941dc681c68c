"""Render tests need helm; without it they are skipped, and `make test-helm` says so."""

from __future__ import annotations

import pytest

from tests.helm.chart import HELMS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is in this folder when there is no helm."""
    if not HELMS:
        for item in items:
            if "tests/helm/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="helm is not on PATH"))
