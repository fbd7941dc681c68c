"""Images and a stack for the whole run, from a copy of this tree; removed at the end, whatever happened."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.worker.tasks_under_test import CUSTOM
from tests.support.compose import ComposeStack, copy_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

#: A user's own module: what the load runs.
TASKS = (
    CUSTOM
    + '''
import time

@shared_task
def square(number):
    """Quick."""
    return number * number

@shared_task(bind=True, base=DatabaseAwareTask)
def work(self, number, seconds=0.5):
    """Takes a while."""
    self.update_progress(50)
    time.sleep(seconds)
    return number
'''
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starting containers on a busy machine takes longer than a test's usual limit; whoever exceeds this one still has to
    take the containers down, so it is told by a signal.
    """
    for item in items:
        if "tests/compose/" in str(item.path) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900, method="signal"))


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A place for trees, within dockerd's reach."""
    with tempfile.TemporaryDirectory(prefix="ledgerq-compose-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def new_stack(tree: Path, name: str) -> ComposeStack:
    """A stack whose users have a module of their own in its folder of tasks."""
    (tree / "deploy" / "compose" / "tasks" / "my_tasks.py").write_text(TASKS)
    return ComposeStack(f"ledgerq-{name}-{os.getpid()}", tree, {"LEDGERQ_STACK_TASK_MODULES": "my_tasks"})


def build(stack: ComposeStack) -> None:
    """Building needs a package index: one failure is the network's."""
    command = "docker compose --profile load build"
    if stack.sh(command, timeout=400, succeeds=False).returncode:
        stack.sh(command, timeout=400)


@pytest.fixture(scope="session")
def built(folder: Path) -> Iterator[ComposeStack]:
    """A stack whose images are built; nothing is started."""
    stack = new_stack(copy_tree(ROOT, folder / "tree"), "stack")
    try:
        build(stack)
        yield stack
    finally:
        stack.remove()
        stack.remove_images()


@pytest.fixture(scope="session")
def stack(built: ComposeStack) -> ComposeStack:
    """The stack, up from nothing."""
    built.compose("up", "--detach", "--wait", "--wait-timeout", "240", timeout=300)
    return built


@pytest.fixture(scope="session")
def base_image() -> str:
    """What the images are built on."""
    name = os.environ.get("LEDGERQ_STACK_PYTHON_IMAGE", "python:3.13-slim-bookworm")
    subprocess.run(["docker", "image", "inspect", name], check=True, capture_output=True)  # noqa: S607
    return name


@pytest.fixture(scope="session")
def prometheus_image() -> str:
    """Prometheus' image, which is not built here."""
    name = os.environ.get("LEDGERQ_STACK_PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0")
    if subprocess.run(["docker", "image", "inspect", name], check=False, capture_output=True).returncode:  # noqa: S607
        pytest.skip(f"there is no image {name} here")
    return name
