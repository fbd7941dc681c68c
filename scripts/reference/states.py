"""states.md: the six states and the legal steps between them, drawn from the transition table."""

from __future__ import annotations

from ledgerq_shared.states import FINAL, STARTABLE, TRANSITIONS, State
from reference.tables import table

_INTRODUCTION = """# States

The words are Celery's own. A task is in exactly one of six states; `completed_at` is set exactly in the final ones (a CHECK
in the database). The table of steps is data (`ledgerq_shared.states.TRANSITIONS`): no statement takes a task from one
state to another unless it finds it in the first.
"""

_STEPS = """## Steps

Each step leaves an event of the kind beside its arrow ([events](events.md)).

```mermaid
stateDiagram-v2
    [*] --> PENDING: submitted
"""


def page() -> str:
    """The whole page."""
    text = _INTRODUCTION + table(
        ("state", "final", "may begin to run", "meaning"),
        ((f"`{state}`", _yes(state in FINAL), _yes(state in STARTABLE), state.meaning) for state in State),
    )
    text += _STEPS
    text += "".join(f"    {before} --> {after}: {', '.join(kinds)}\n" for (before, after), kinds in TRANSITIONS.items())
    text += "```\n"
    rows = (
        (f"`{before}`", f"`{after}`", ", ".join(f"`{kind}`" for kind in kinds))
        for (before, after), kinds in TRANSITIONS.items()
    )
    return (text + table(("from", "to", "event"), rows)).rstrip("\n") + "\n"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
