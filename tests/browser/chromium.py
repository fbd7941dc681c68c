"""A page as a headless Chromium renders it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def rendered(url: str, profile: Path, *options: str) -> str:
    """The page's DOM after its scripts have run for a while; empty if the browser failed, which it may at times."""
    assert BROWSER, "chromium is not on PATH (Debian: apt-get install chromium)"
    # The profile is the test's own, the sandbox needs a user of its own, and a container's /dev/shm is small.
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        "--no-first-run", "--virtual-time-budget=15000", "--timeout=60000", "--dump-dom", *options, url,
    ]  # fmt: skip
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=170).stdout
    except subprocess.SubprocessError as error:
        print(error)  # noqa: T201
        return ""
