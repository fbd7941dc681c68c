"""events.md: every kind of event in a task's history. The meaning of each kind comes from its own declaration."""

from __future__ import annotations

from ledgerq_shared.events import Event, EventKind
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


def page() -> str:
    """The whole page."""
    fields = [(f"`{name}`", _description(name)) for name in Event._fields]
    rows = [(f"`{kind}`", _meaning(kind), _steps(kind), kind.data) for kind in EventKind]
    text = _INTRODUCTION + table(("field", "meaning"), fields)
    return text + _KINDS + table(("kind", "what happened", "step", "`data`"), rows) + _STORED


def _meaning(kind: EventKind) -> str:
    # As SQL writes it; `dispatched` never has a row of its own.
    is_written = kind is EventKind.DISPATCHED or is_mentioned(f"'{kind}'")
    return kind.meaning + ("" if is_written else " *(Reserved: nothing writes it yet.)*")


def _description(field: str) -> str:
    description = TaskEvent.model_fields[field].description
    assert description
    return description


def _steps(kind: EventKind) -> str:
    steps = [f"{before} → {after}" for (before, after), kinds in TRANSITIONS.items() if kind in kinds]
    if kind is EventKind.SUBMITTED:
        steps = ["→ PENDING"]
    return ", ".join(steps) or "–"
