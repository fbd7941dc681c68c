"""The cluster tests need a cluster that `make test-kubernetes` has made ready; elsewhere they are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import CHART, ROOT, Namespace, run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is in this folder unless the cluster is ours."""
    if "LEDGERQ_CLUSTER" not in os.environ:
        for item in items:
            if "tests/kubernetes/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="run by `make test-kubernetes`"))


def _made(name: str) -> Iterator[Namespace]:
    found = Namespace(name, "ledgerq")
    yield found
    run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="module")
def trial() -> Iterator[Namespace]:
    """Where the guide's trial is installed."""
    yield from _made("ledgerq")


@pytest.fixture(scope="module")
def live() -> Iterator[Namespace]:
    """Where the guide's real release is installed."""
    yield from _made("live")


@pytest.fixture(scope="session")
def previous_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it was before the last commit that changed it."""
    history = run("git", "-C", str(ROOT), "rev-list", "--max-count=2", "HEAD", "--", str(CHART)).split()
    if len(history) < 2:
        pytest.skip("the chart has no earlier commit in this clone")
    folder = tmp_path_factory.mktemp("previous")
    where = CHART.relative_to(ROOT).as_posix()
    archive = str(folder / "chart.tar")
    run("git", "-C", str(ROOT), "archive", "-o", archive, history[1], where)
    run("tar", "-xf", archive, "-C", str(folder))
    return folder / where
