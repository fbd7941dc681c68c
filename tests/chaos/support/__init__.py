"""What the chaos tests are made of.

==============  ====================================================================================
`chaos_tasks`   the task module under test; workers import it from their own folder
`journal`       what the tasks themselves wrote down: which ran, where, when, how often
`plant`         API, workers and maintenance of one test, and short ways to give them work
`nodes`         a worker node's processes by pid: parent, agent, pool; kill, freeze, thaw
`load`          submits over HTTP, with an Idempotency-Key each, until somebody answers
`histogram`     how long recoveries took
==============  ====================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: For variants that the short form within `make test` has no time for.
long_form = pytest.mark.skipif(not os.environ.get("CHAOS_MINUTES"), reason="in the long form only: make test-chaos")


def chaos_tasks_path() -> Path:
    """The task module's file: it is copied, never imported, by the tests."""
    return Path(__file__).with_name("chaos_tasks.py")
