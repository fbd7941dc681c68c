"""Errors with which a task can end although its own code did not raise them: the ``type`` of ``task.error``."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class TaskError(StrEnum):
    """A type of error that LedgerQ writes. All other types are names of exceptions that the task raised."""

    OUTCOME_NOT_RECORDABLE = (
        "OutcomeNotRecordable",
        "PostgreSQL cannot keep how the task ended (a retry's delay that is no number, for example).",
    )
    WORKER_LOST = (
        "WorkerLost",
        "The worker died while it ran the task, or may have, and it must not run twice (`on_worker_lost`, `acks_late`).",
    )
    TASK_QUARANTINED = (
        "TaskQuarantined",
        "The task was running at too many deaths of workers (three unless set otherwise).",
    )
    TIME_LIMIT_EXCEEDED = "TimeLimitExceeded", "It ran longer than its hard time limit; its pool process was killed."
    SOFT_TIME_LIMIT_EXCEEDED = (
        "SoftTimeLimitExceeded",
        "It ran longer than its soft time limit and let this exception through.",
    )
    MESSAGE_REFUSED = (
        "MessageRefused",
        "A plain Celery message could not become a task (not JSON, too large, no task's message); it never ran.",
    )
    RESULT_NOT_SERIALIZABLE = "ResultNotSerializable", "The task returned something that JSON cannot hold."
    RESULT_TOO_LARGE = "ResultTooLarge", "The task returned more than a result may hold."
    COMPOUND_REPLACEMENT = (
        "CompoundReplacement",
        "`self.replace` was given a chain, group or chord; a task can be replaced by another task only.",
    )

    #: A sentence for people; the reference is made from it.
    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> Self:
        """A member: its word in ``task.error``, and what it means. (The default is for look-ups by the word alone.)"""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member
