"""The errors that the API answers with when it cannot do what was asked, as one tree; :mod:`ledgerq_api.answers.errors`
continues it.

    LedgerQError ├── InvalidRequest 422 the client must change what it sends │ ├── UnknownTaskType 422 │ ├──
    InvalidParameters 422 │ └── IdempotencyKeyReused 422 ├── TaskNotFound 404 ├── TaskTypeNotFound 404 ├── QueueNotFound
    404 ├── ScopeMissing 403 ├── HostNotAllowed 403 ├── OriginNotAllowed 403 ├── TaskIsFinal 409 ├── TaskIsNotFinal 409
    ├── DuplicateTask 409 ├── NotHttp 400 refused before the request was looked at ├── RequestTimedOut 408 ├──
    TargetTooLong 414 ├── HeadTooLarge 431 └── Unavailable 503 try again later
        ├── LedgerUnavailable       503
        │   └── LedgerFull          503
        ├── OutcomeUnknown          503
        ├── NoTaskTypes             503
        └── ServerBusy              503

The class says the code, the HTTP status and whether a retry can help; the instance says what was wrong, where, and
what to do. Rendering as ``application/problem+json`` happens in one place, in the API.

Errors that never become an answer are defined beside the code that raises them. Each ends a command with one line for a
person (a SaidError, which knows both languages), or ends a task (:class:`~ledgerq_shared.task_errors.TaskError` says
what those mean):

    SettingsError           settings: a variable is missing or wrong
    EmbeddedError           embedded: a server cannot run
    TaskModuleError         the worker's catalogue: a module of tasks cannot be imported
    TaskTypeError           … a task's options mean nothing
    LauncherError           the launcher; UsageError is one of them
    TaskCancelled           a task's own code, where it asks whether it was cancelled: it ends as REVOKED
    ResultNotSerializable   encoding a task's result …
    ResultTooLarge          … which is not JSON, or longer than may be kept
    StruckWhileEncoding     … or took longer than the task's soft limit
    CompoundReplacement     ``self.replace`` by what is not one task
    OutcomeNotRecordable    the recorder: PostgreSQL takes a task's end in no form
    TaskFailed              no end: how Celery's result backend shows an error whose class is not there
"""

from __future__ import annotations

from typing import Any, ClassVar

from ledgerq_shared.languages import Said, say


class LedgerQError(Exception):
    """Something went wrong that the caller can understand."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail or self.title())
        self.extra = extra

    @classmethod
    def title(cls) -> Said:
        """What all errors of this class mean: the first line of its docstring."""
        return say((cls.__doc__ or "").strip().splitlines()[0])

    @property
    def said(self) -> str:
        """One sentence for the person who reads the answer."""
        return self.args[0]  # type: ignore[no-any-return]

    @property
    def detail(self) -> str:
        """The same in English."""
        return str(self.said)


class InvalidRequest(LedgerQError):
    """The request is not valid."""

    code = "invalid_request"
    status = 422


class UnknownTaskType(InvalidRequest):
    """No task type of this name is registered."""

    code = "unknown_task_type"


class InvalidParameters(InvalidRequest):
    """The parameters do not fit the task type's schema."""

    code = "invalid_parameters"


class IdempotencyKeyReused(InvalidRequest):
    """This Idempotency-Key was already used with another body."""

    code = "idempotency_key_reused"


class TaskNotFound(LedgerQError):
    """No task has this id."""

    code = "task_not_found"
    status = 404


class TaskTypeNotFound(LedgerQError):
    """No task type of this name is registered."""

    code = "task_type_not_found"
    status = 404


class QueueNotFound(LedgerQError):
    """No queue of this name has ever been used."""

    code = "queue_not_found"
    status = 404


class ScopeMissing(LedgerQError):
    """The API key does not have the scope that this call needs."""

    code = "scope_missing"
    status = 403


class HostNotAllowed(LedgerQError):
    """No API key is needed here, so the server answers to loopback names and addresses only."""

    code = "host_not_allowed"
    status = 403


class OriginNotAllowed(LedgerQError):
    """Pages of other sites may not change anything."""

    code = "origin_not_allowed"
    status = 403


class TaskIsFinal(LedgerQError):
    """The task has already ended."""

    code = "task_is_final"
    status = 409


class TaskIsNotFinal(LedgerQError):
    """The task has not ended yet."""

    code = "task_is_not_final"
    status = 409


class DuplicateTask(LedgerQError):
    """A task with this unique_key is already waiting or running."""

    code = "duplicate_task"
    status = 409


class Unavailable(LedgerQError):
    """Something this request needs is away at the moment; try again."""

    code = "unavailable"
    status = 503
    retryable = True
    #: Whether PostgreSQL answers, but has refused this work just now, for example because of a lock that somebody holds.
    #: Other work may go on.
    is_busy = False


class LedgerUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or does not take this just now; nothing was recorded."""

    code = "ledger_unavailable"

    def __init__(self, detail: str | None = None, *, is_busy: bool = False, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.is_busy = is_busy
        #: It is the reason for, or part of, an outage that the log reports (:mod:`ledgerq_shared.outages`).
        self.is_told = False


class LedgerFull(LedgerUnavailable):
    """PostgreSQL's disk is full; nothing was recorded."""

    code = "ledger_full"


class OutcomeUnknown(Unavailable):
    """Nobody knows whether PostgreSQL has committed, or whether that will last: the task may or may not be accepted."""

    code = "outcome_unknown"


class NoTaskTypes(Unavailable):
    """No task type is registered yet; run `ledgerq-worker register`."""

    code = "no_task_types"


class NotHttp(LedgerQError):
    """What arrived is not an HTTP request."""

    code = "not_http"
    status = 400


class RequestTimedOut(LedgerQError):
    """The request did not arrive in time."""

    code = "request_timed_out"
    status = 408
    retryable = True


class TargetTooLong(LedgerQError):
    """The request's path and query are too long."""

    code = "target_too_long"
    status = 414


class HeadTooLarge(LedgerQError):
    """The request's headers are too large."""

    code = "head_too_large"
    status = 431


class ServerBusy(Unavailable):
    """The server holds as much of others' requests and answers as it may; try again."""

    code = "server_busy"
