"""events.md: every kind of event of a task's history. The kinds are those that the code documents and writes."""

from __future__ import annotations

import inspect
import re

from ledgerq_shared.events import Event
from ledgerq_shared.models import TaskEvent
from ledgerq_shared.states import TRANSITIONS
from reference.sources import is_mentioned
from reference.tables import table

_INTRODUCTION = """# Events

`GET /tasks/{task_id}/events` is a task's history: numbered from 1 without gaps, never changed. Each event has these fields:
"""

_KINDS = """## Kinds

*Step* is what it means for the task's state; a dash: the state stays as it is.
"""

_STORED = """## As they are stored

The table `task_event` is append-only (a trigger on every partition refuses UPDATE, DELETE and TRUNCATE) and has one
partition for each day. One stored row may stand for up to three events: a row with `started_at` also stands for `started`,
with the number before its own, and a row with `claimed_at` for `dispatched` before that. Only `ledgerq_shared.events.expand`
and what reads through it know this; whoever reads the table with SQL must do the same.
"""

#: What happened, and what `data` says about it.
MEANINGS = {
    "submitted": ("The task was accepted: it is committed in PostgreSQL.", "–"),
    "dispatched": ("A worker has claimed it; its code has not begun.", "–"),
    "started": ("Its code began.", "–"),
    "progress": (
        "It reported progress. What is written is throttled; the last value is always there.",
        "`progress`, `status`",
    ),
    "log": ("It added a line by `self.log(…)`.", "`message` and what the task gave"),
    "retried": ("An attempt ended in a retry.", "`error`, `retries`; or `rejected`, `requeue`"),
    "replaced": ("It was replaced by another task under the same id (`self.replace`).", "`replaced_by`"),
    "succeeded": ("Its code returned.", "–, or `ignored` after `raise Ignore()`"),
    "failed": ("It failed; `error` of the task says why.", "–; `limit`, `seconds`; or as for `recovered`"),
    "revoked": ("It was cancelled or expired.", "`reason`"),
    "recovered": ("Its worker died; it waits to run again.", "`reason`, `why`, `claim`, `charged`, `worker_deaths`"),
    "resubmitted": ("A person had it run again under the same id.", "–"),
    "cancel_requested": ("Somebody asked for its cancellation.", "–"),
    "delivery_failed": (
        "What Celery owes somebody after its end failed, or was given up after three attempts that did not come to an end.",
        "`what` (`outcome`: errbacks, the chord, the chain; `message`: a task of somebody else's), `attempts`, `error`",
    ),
    "late_write_refused": ("A superseded claim tried to write; nothing was changed.", "`claim`, `write`"),
}


def kinds() -> list[str]:
    """The kinds that :class:`Event` documents, in its order."""
    comment = re.search(r"((?:#:.*\n\s*)+)kind: str", inspect.getsource(Event))
    assert comment, "Event.kind has lost its comment"
    return re.findall(r"[a-z_]{3,}", re.sub(r"\bor\b", "", comment[1]))


def page() -> str:
    """The whole page."""
    documented = kinds()
    assert set(documented) == set(MEANINGS), f"kinds and meanings differ: {set(documented) ^ set(MEANINGS)}"
    fields = [(f"`{name}`", _description(name)) for name in Event._fields]
    rows = [(f"`{kind}`", _meaning(kind), _steps(kind), MEANINGS[kind][1]) for kind in documented]
    text = _INTRODUCTION + table(("field", "meaning"), fields)
    return text + _KINDS + table(("kind", "what happened", "step", "`data`"), rows) + _STORED


def _meaning(kind: str) -> str:
    is_written = kind == "dispatched" or is_mentioned(f"'{kind}'")  # SQL; `dispatched` never has a row of its own
    return MEANINGS[kind][0] + ("" if is_written else " *(Reserved: nothing writes it yet.)*")


def _description(field: str) -> str:
    description = TaskEvent.model_fields[field].description
    assert description
    return description


def _steps(kind: str) -> str:
    steps = [f"{before} → {after}" for (before, after), kinds in TRANSITIONS.items() if kind in kinds]
    if kind == "submitted":
        steps = ["→ PENDING"]
    return ", ".join(steps) or "–"
