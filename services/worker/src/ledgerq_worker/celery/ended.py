"""Messages that never run become tasks that have ended: refused ones as FAILURE, revoked ones as REVOKED."""

from __future__ import annotations

from kombu.exceptions import EncodeError

from ledgerq_shared.statements.end_at_once import EndAtOnce
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.task_errors import TaskError
from ledgerq_worker.celery.messages import celery_part, ids_of
from ledgerq_worker.celery.plain_lists import Glimpse
from ledgerq_worker.celery.sending import Ended
from ledgerq_worker.slot.encoding import encode_celery, to_json

#: The type of a task whose message names none.
_NAMELESS = "ledgerq.unreadable"
_LONGEST_REASON = 500


def reason_of(error: BaseException) -> str:
    """Why a message is refused, in one line of bounded length."""
    text = f"{type(error).__name__}: {error}".strip()[:_LONGEST_REASON]
    return "".join(character if character.isprintable() else " " for character in text)


def refused(seen: Glimpse, error: BaseException, *, queue: str, actor: str) -> Ended:
    """The FAILED task that stands for a message, with what is known of it; its chord and its errbacks hear of it."""
    own_id, celery_id = ids_of(seen.celery_id, seen.delivery)
    try:
        kept = encode_celery(celery_part(seen.headers, seen.embed))
    except EncodeError:
        kept = "{}"
    reason = reason_of(error)
    options = NewTaskOptions(celery=kept, celery_id=celery_id)
    task = NewTask(own_id, seen.name or _NAMELESS, queue, "{}", actor=actor, options=options)
    described = {"type": TaskError.MESSAGE_REFUSED, "message": reason, "traceback": None, "retryable": False}
    return Ended(task, EndAtOnce(own_id, to_json(described), to_json({"reason": "message_refused"})))


def revoked(task: NewTask) -> Ended:
    """The REVOKED task that stands for a message whose id was revoked before it came."""
    data = {"reason": "cancelled", "message": "revoked by remote control before it was here"}
    return Ended(task, EndAtOnce(task.id, None, to_json(data)))
