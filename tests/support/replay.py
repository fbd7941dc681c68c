"""Whether the protocol allows the history of a task: ``docs/model/ledger.pml`` as one task sees it.

Much of what happens leaves no event: who claimed, handed back or promoted. So a history is replayed with everything that
may be so: a set of places where the task may stand, which each event narrows. An event that nothing can have led to, or
an end at which the task stands where its history cannot have left it, is a problem.

Actions have the names of the statements. ``tests/contract/test_model.py`` compares them with the model's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ledgerq_shared.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ledgerq_shared.events import Event

READY, HELD, CLAIM, NOWHERE = "ready", "held", "claim", ""


@dataclass(frozen=True)
class At:
    """Where a task may be."""

    state: State
    place: str
    attempt: int = 0
    is_cancelled: bool = False
    #: Who holds it; None: somebody whom no event has named.
    holder: str | None = None
    #: Its `dispatched` is told, its `started` is not.
    is_dispatched: bool = False

    @property
    def waits(self) -> bool:
        """Nobody has it."""
        return self.place in (READY, HELD)

    def moved(self, place: str, state: State | None = None) -> At:
        """Somewhere else; it leaves any claim."""
        return replace(self, state=state or self.state, place=place, holder=None, is_dispatched=False)

    def ended(self, state: State) -> At:
        """It is over."""
        return replace(self.moved(NOWHERE, state), is_cancelled=False)


# ---- What leaves no event. Of what was cancelled nothing waits, so nothing of it is promoted or claimed, and whoever
# hands it back or takes it back ends it with an event.


def promote_due(at: At) -> Iterator[At]:
    """Its time has come, or a worker that knows its type."""
    if at.place == HELD and not at.is_cancelled:
        yield at.moved(READY)


def claim_tasks(at: At) -> Iterator[At]:
    """Somebody claims it."""
    if at.place == READY and not at.is_cancelled:
        yield at.moved(CLAIM)


def hand_back(at: At) -> Iterator[At]:
    """It comes back and has not begun: handed back, or taken back from a node of which it is known."""
    if at.place == CLAIM and at.state is not State.STARTED and not at.is_dispatched and not at.is_cancelled:
        yield at.moved(READY)
        yield at.moved(HELD)


SILENT: tuple[Callable[[At], Iterator[At]], ...] = (promote_due, claim_tasks, hand_back)


# ---- What leaves one.


def submit_tasks(at: At, event: Event) -> Iterator[At]:
    """Only at the very beginning: see :func:`problems_with`."""
    yield from ()


def dispatched(at: At, event: Event) -> Iterator[At]:
    """The first of the steps that a write of a begun leg stands for."""
    if at.place == CLAIM and at.state is not State.STARTED and not at.is_dispatched:
        yield replace(at, is_dispatched=True, holder=_worker(event))


def record_begun(at: At, event: Event) -> Iterator[At]:
    """Its code has begun."""
    if at.place == CLAIM and at.is_dispatched and event.attempt == at.attempt + 1 and _is_holder(at, event):
        yield replace(at, state=State.STARTED, attempt=at.attempt + 1, is_dispatched=False)


def record_progress(at: At, event: Event) -> Iterator[At]:
    """Who runs it reports, or adds a line."""
    if at.state is State.STARTED and _is_holder(at, event):
        yield at


record_log = record_progress


def record_ended(at: At, event: Event) -> Iterator[At]:
    """Its runner says how it has ended; its holder may say that it does not begin."""
    state = {"succeeded": State.SUCCESS, "failed": State.FAILURE, "revoked": State.REVOKED}[event.kind]
    if at.state is State.STARTED and _is_holder(at, event):
        yield at.ended(state)
    elif at.place == CLAIM and not at.is_dispatched and state is State.REVOKED and _worker(event):
        is_expired = (event.data or {}).get("reason") == "expired"
        if at.is_cancelled or is_expired:
            yield at.ended(state)


def record_next_leg(at: At, event: Event) -> Iterator[At]:
    """It goes on later. What was cancelled waits only for its end in the same transaction."""
    if at.state is State.STARTED and _is_holder(at, event):
        state = State.RETRY if event.kind == "retried" else State.PENDING
        yield at.moved(READY, state)
        yield at.moved(HELD, state)


def end_from_outside(at: At, event: Event) -> Iterator[At]:
    """The agent ends it with its process: a hard limit, or somebody asked to terminate it."""
    if at.state is State.STARTED and (event.kind == "failed" or at.is_cancelled):
        yield at.ended(State.FAILURE if event.kind == "failed" else State.REVOKED)


def recover_claims(at: At, event: Event) -> Iterator[At]:
    """It is taken back from who will not finish it. What was cancelled does not run again."""
    if at.place != CLAIM or at.is_dispatched:
        return
    if event.kind == "recovered" and at.state is State.STARTED and not at.is_cancelled:
        yield at.moved(READY, State.PENDING)
    if event.kind == "failed" and at.state is State.STARTED and not at.is_cancelled:
        yield at.ended(State.FAILURE)
    if event.kind == "revoked" and at.is_cancelled:
        yield at.ended(State.REVOKED)


def revoke_waiting(at: At, event: Event) -> Iterator[At]:
    """Somebody cancels it while nobody has it."""
    if at.waits:
        yield at.ended(State.REVOKED)


expire = take_over = revoke_waiting


def request_cancel(at: At, event: Event) -> Iterator[At]:
    """Somebody asks who has it to end it."""
    if at.place == CLAIM and not at.is_dispatched:
        yield replace(at, is_cancelled=True)


def resubmit(at: At, event: Event) -> Iterator[At]:
    """A person runs it again."""
    if at.state in (State.FAILURE, State.REVOKED):
        yield at.moved(READY, State.PENDING)


def refuse(at: At, event: Event) -> Iterator[At]:
    """A write came too late: it changes nothing."""
    yield at


def note_failed_deliveries(at: At, event: Event) -> Iterator[At]:
    """Somebody was not told of its end: that changes nothing."""
    yield at


#: Kind of event → what may have written it.
LOGGED: dict[str, tuple[Callable[[At, Event], Iterator[At]], ...]] = {
    "submitted": (submit_tasks,),
    "dispatched": (dispatched,),
    "started": (record_begun,),
    "progress": (record_progress,),
    "log": (record_log,),
    "succeeded": (record_ended,),
    "failed": (record_ended, end_from_outside, recover_claims),
    "revoked": (record_ended, end_from_outside, recover_claims, revoke_waiting, expire, take_over),
    "retried": (record_next_leg,),
    "replaced": (record_next_leg,),
    "recovered": (recover_claims,),
    "cancel_requested": (request_cancel,),
    "resubmitted": (resubmit,),
    "late_write_refused": (refuse,),
    "delivery_failed": (note_failed_deliveries,),
}


def problems_with(
    history: Sequence[Event], state: State | None = None, places: Sequence[str] | None = None
) -> list[str]:
    """What the protocol does not allow in a history of single steps, one line each; none: it allows it.

    Args:
        state: as the task's row has it; None: nobody looked.
        places: where the task stands (``ready``, ``held``, ``claim``); None: nobody looked.
    """
    if not history or history[0].kind != "submitted":
        return ["it does not begin with `submitted`"]
    may_be = {At(State.PENDING, READY), At(State.PENDING, HELD)}
    for event in history[1:]:
        before = _with_silent(may_be)
        may_be = {after for at in before for action in LOGGED.get(event.kind, ()) for after in action(at, event)}
        may_be = {at for at in may_be if at.attempt == event.attempt}
        if not may_be:
            what = f"event {event.seq} `{event.kind}` by {event.actor}, attempt {event.attempt},"
            return [f"{what} cannot come after {_brief(before)}"]
    return [*_problems_with_end(_with_silent(may_be), state, places), *_problems_with_claims(history)]


def _problems_with_end(may_be: set[At], state: State | None, places: Sequence[str] | None) -> Iterator[str]:
    may_be = {at for at in may_be if not (at.waits and at.is_cancelled)}
    if state is not None:
        may_be = {at for at in may_be if at.state is state}
    if places is not None:
        place = places[0] if places else NOWHERE
        may_be = {at for at in may_be if at.place == place}
    if not may_be:
        yield f"its history cannot have left it as {state} in {places or 'no place'}"


def _problems_with_claims(history: Sequence[Event]) -> Iterator[str]:
    """Claims are taken back in the order of their numbers, and none from which a write was refused before."""
    latest, refused = 0, set[int]()
    for event in history:
        claim = (event.data or {}).get("claim")
        if not isinstance(claim, int):
            continue
        if event.kind == "late_write_refused":
            refused.add(claim)
        elif claim in refused or claim <= latest:
            yield f"event {event.seq} `{event.kind}` takes it back from claim {claim}, which did not hold it any more"
        else:
            latest = claim


def _with_silent(may_be: set[At]) -> set[At]:
    found, new = set(may_be), may_be
    while new:
        new = {after for at in new for action in SILENT for after in action(at)} - found
        found |= new
    return found


def _worker(event: Event) -> str | None:
    return event.actor if event.actor.startswith("worker:") else None


def _is_holder(at: At, event: Event) -> bool:
    return at.holder is None or at.holder == event.actor or _worker(event) is None


def _brief(may_be: set[At]) -> str:
    told = {f"{at.state} in {at.place or 'no place'}{', cancelled' * at.is_cancelled}" for at in may_be}
    return " or ".join(sorted(told)) or "nothing"
