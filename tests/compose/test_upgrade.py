"""From the previous commit's images to this tree's, with `up --build` over a running stack under load."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.compose.conftest import ROOT, build, new_stack
from tests.support.compose import LONG_RUNNING, Load, copy_tree, docker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.compose import ComposeStack

_PREVIOUS = "HEAD~1"
#: Where `make secrets` writes.
SECRETS = "deploy/compose/secrets"


@pytest.fixture
def older(folder: Path) -> Iterator[ComposeStack]:
    """The previous commit's stack, up and running."""
    has_stack = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{_PREVIOUS}:deploy/compose/compose.yaml"],  # noqa: S607
        check=False,
        capture_output=True,
    )
    if has_stack.returncode:
        pytest.skip("the previous commit has no Compose stack, or this clone does not have that commit")
    stack = new_stack(copy_tree(ROOT, folder / "older", commit=_PREVIOUS), "upgrade")
    try:
        build(stack)
        stack.sh("deploy/compose/make-secrets")
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "240", timeout=300)
        yield stack
    finally:
        stack.remove()
        stack.remove_images()


def images(stack: ComposeStack) -> dict[str, str]:
    """The image that each container runs from."""
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one["Image"] for one in stack.containers()}


def test_up_with_build_over_the_previous_commits_stack_loses_nothing(older: ComposeStack, folder: Path):
    assert older.bearer == {"Authorization": f"Bearer {(older.tree / SECRETS / 'files' / 'api_key').read_text()}"}
    waiting = older.submit("my_tasks.work", number=1, seconds=5)
    before = images(older)
    with Load(older, "my_tasks.work", {"seconds": 0.2}) as load:
        newer = new_stack(copy_tree(ROOT, folder / "newer"), "upgrade")
        # Something differs in any case, so that containers are replaced even between equal trees.
        (newer.tree / "shared" / "src" / "ledgerq_shared" / "py.typed").write_text("newer\n")
        shutil.copytree(older.tree / SECRETS, newer.tree / SECRETS, dirs_exist_ok=True)
        older.tree = newer.tree
        older.sh("docker compose up -d --build", timeout=400)
        older.answers()
        load.more()
    load.all_succeeded()
    assert older.ended(waiting)["result"] == 1
    older.healthy()
    after = images(older)
    stores = {"postgres", "redis"}
    assert {name for name in before.keys() & set(LONG_RUNNING) if before[name] == after[name]} == stores
    assert docker("image", "inspect", after["api"])
