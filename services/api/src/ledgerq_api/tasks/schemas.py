"""The wire form of tasks: what clients send and get. The users have chosen the names; names may be added but not
changed.

JSON that belongs to the users (parameters, results, metadata) is carried as :class:`msgspec.Raw`, byte for
byte.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from ledgerq_api.answers.ages import AsOf
from ledgerq_api.queues.schemas import LONGEST_QUEUE_NAME, QUEUE_PATTERN
from ledgerq_api.requests import integers
from ledgerq_shared.states import State
from ledgerq_shared.tasks.submitting import LONGEST_KEY, LONGEST_TTL

#: The longest time that a task may wait or run: ten years, in seconds.
LONGEST = 315_360_000

_Object = Meta(extra_json_schema={"type": "object", "additionalProperties": True})
_Time = Annotated[datetime, Meta(tz=True)]
_Seconds = Annotated[float, Meta(ge=0, le=LONGEST)]
_Limit = Annotated[float, Meta(gt=0, le=LONGEST)]
_EMPTY = Raw(b"{}")
_NULL = Raw(b"null")
_Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


def _no_parameters() -> Raw:
    return _EMPTY


def _no_metadata() -> Raw:
    return _NULL


class SubmitBody(Struct, forbid_unknown_fields=True, frozen=True):
    """A task to run."""

    task_type: Annotated[
        str,
        Meta(min_length=1, max_length=255, description="Name of a registered task type (`GET /task-types`)."),
    ]
    task_parameters: Annotated[
        Raw, _Object, Meta(description="Keyword arguments of the task; they must fit the type's JSON Schema.")
    ] = msgspec.field(default_factory=_no_parameters)
    queue: (
        Annotated[
            str,
            Meta(
                pattern=QUEUE_PATTERN,
                min_length=1,
                max_length=LONGEST_QUEUE_NAME,
                description="Queue; the type's own unless given.",
            ),
        ]
        | None
    ) = None
    priority: Annotated[int, Meta(ge=0, le=9, description="0 to 9; 9 runs first. 5 unless given.")] | None = None
    eta: Annotated[_Time, Meta(description="Not before this moment (RFC 3339 with an offset).")] | None = None
    countdown: Annotated[_Seconds, Meta(description="Not before this many seconds from now.")] | None = None
    expires: (
        Annotated[
            _Time | _Seconds,
            Meta(description="REVOKED unless begun before this moment, or within this many seconds."),
        ]
        | None
    ) = None
    max_retries: (
        Annotated[int, Meta(ge=0, le=1_000_000, description="Most retries; the type's own unless given.")] | None
    ) = None
    time_limit: Annotated[_Limit, Meta(description="Seconds after which an attempt is killed.")] | None = None
    soft_time_limit: (
        Annotated[_Limit, Meta(description="Seconds after which SoftTimeLimitExceeded is raised in the task.")] | None
    ) = None
    on_worker_lost: (
        Annotated[
            Literal["rerun", "fail"],
            Meta(description="What to do if the worker dies while the task runs; the type's own unless given."),
        ]
        | None
    ) = None
    metadata: Annotated[
        Raw,
        Meta(extra_json_schema={"type": ["object", "null"], "default": None}),
        Meta(description="Anything of yours that belongs to the task, up to 64 KiB."),
    ] = msgspec.field(default_factory=_no_metadata)
    tags: (
        Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=128)]],
            Meta(max_length=32, description="Labels to find tasks by."),
        ]
        | None
    ) = None
    unique_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=LONGEST_KEY,
                description="At most one task holds a key, from its submission until it is final.",
            ),
        ]
        | None
    ) = None
    unique_policy: (
        Annotated[
            Literal["return_existing", "reject", "replace"],
            Meta(
                description="Where the key is taken: answer with the task that holds it (also unless given), refuse with "
                "409, or revoke that task if no worker has it yet (409 if one has)."
            ),
        ]
        | None
    ) = None
    unique_ttl: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=LONGEST_TTL,
                description="Seconds from now for which the key is held, instead of until the task is final.",
            ),
        ]
        | None
    ) = None

    @property
    def is_plain(self) -> bool:
        """Whether none of the rarer fields is there."""
        return (
            self.metadata is _NULL
            and self.tags is None
            and self.eta is None
            and self.countdown is None
            and self.expires is None
            and self.max_retries is None
            and self.time_limit is None
            and self.soft_time_limit is None
            and self.on_worker_lost is None
            and self.unique_key is None
            and self.unique_policy is None
            and self.unique_ttl is None
        )


class BatchBody(Struct, forbid_unknown_fields=True, frozen=True):
    """Tasks to accept together: all of them or none."""

    tasks: Annotated[list[SubmitBody], Meta(min_length=1, max_length=10_000)]


class Accepted(Struct, frozen=True):
    """The task is in the ledger and will run; or the one that holds its unique key is there."""

    task_id: _Uuid
    status: Annotated[State, Meta(description="PENDING; of a task that holds the unique key, its state.")]
    message: Annotated[str, Meta(description="For people, in Chinese or English by `Accept-Language`.")]


class BatchItem(Struct, frozen=True):
    """One accepted task of a batch, in the batch's order."""

    task_id: UUID
    status: Annotated[State, Meta(description="PENDING; of a task that holds the unique key, its state.")] = (
        State.PENDING
    )


class BatchAccepted(Struct, frozen=True):
    """All tasks of the batch are in the ledger."""

    tasks: list[BatchItem]
    accepted: int


class Progress(Struct, frozen=True):
    """What the task last said about itself."""

    progress: Annotated[float | int, Meta(description="Percent.")]
    status: str | None
    timestamp: _Time


class TaskStatus(Struct, kw_only=True, frozen=True):
    """How a task stands."""

    task_id: _Uuid
    task_type: str
    status: State
    submitted_at: _Time
    started_at: Annotated[_Time | None, Meta(description="When the code of the latest attempt began.")]
    completed_at: _Time | None
    progress: Progress | None
    result: Annotated[Raw, Meta(description="What the task returned.", extra_json_schema={})]
    error: Annotated[
        Raw,
        Meta(
            description="Why it failed; null unless FAILURE.",
            extra_json_schema={
                "type": ["object", "null"],
                "properties": {
                    "type": {"type": "string"},
                    "message": {"type": "string"},
                    "traceback": {"type": ["string", "null"]},
                    "retryable": {
                        "type": "boolean",
                        "description": "Whether it may help to run it again. It is retried by itself only where its "
                        "code asks for that (`autoretry_for`, `self.retry`).",
                    },
                },
            },
        ),
    ]
    queue: str
    attempt: Annotated[int, Meta(description="Executions begun so far.")]
    max_attempts: Annotated[int | None, Meta(description="Executions allowed, retries included; null: no limit.")]
    run_at: Annotated[
        _Time | None,
        Meta(description="ETA, when the next retry is due, or since when it may run again; null: at once."),
    ]
    worker: Annotated[str | None, Meta(description="The worker of the latest attempt.")]
    cancel_requested: bool


class Attempt(Struct, kw_only=True, frozen=True):
    """One execution of a task."""

    attempt: int
    worker: str | None
    started_at: _Time
    ended_at: _Time | None
    outcome: Annotated[
        str,
        Meta(description="running, succeeded, failed, retried, replaced, revoked, recovered (worker died)."),
    ]


class Links(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Where to go from here."""

    self: str
    status: str
    events: str
    stream: str
    task_type: str
    rerun_of: str | None = None
    reruns: list[str] = []


class TaskDetail(TaskStatus, kw_only=True, frozen=True):
    """Everything about a task."""

    parameters: Annotated[Raw, _Object]
    args: Annotated[Raw, Meta(extra_json_schema={"type": ["array", "null"], "items": {}})]
    priority: int
    expires_at: _Time | None
    retries: Annotated[int, Meta(description="Retries made (`self.retry`, `autoretry_for`); recoveries do not count.")]
    max_retries: int | None
    worker_deaths: Annotated[int, Meta(description="How often a worker died while running this task.")]
    time_limit: float | None
    soft_time_limit: float | None
    on_worker_lost: str | None
    terminate: bool
    celery_id: str | None
    metadata: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
    tags: list[str]
    rerun_of: Annotated[str | None, Meta(description="The task that this one repeats.")]
    reruns: Annotated[list[str], Meta(description="The tasks that repeat this one, newest first, at most 100.")]
    unique_key: str | None
    request_id: Annotated[
        str | None,
        Meta(description="`X-Request-ID` of the request that submitted it, or that its sending task came with."),
    ]
    trace_id: Annotated[str | None, Meta(description="Trace of that request (W3C Trace Context), if it had one.")]
    attempts: Annotated[list[Attempt], Meta(description="The first ones, told from 1,000 stored events at most.")]
    attempts_truncated: Annotated[
        bool, Meta(description="There are more attempts than these; `events` has all of them, in pages.")
    ]
    links: Links


class TaskSummary(Struct, kw_only=True, frozen=True):
    """A task in a list."""

    task_id: _Uuid
    task_type: str
    status: State
    submitted_at: _Time
    started_at: _Time | None
    completed_at: _Time | None
    progress: Progress | None
    queue: str
    priority: int
    attempt: int
    run_at: _Time | None
    cancel_requested: bool
    tags: list[str]


class TaskPage(Struct, kw_only=True, frozen=True):
    """A page of tasks, newest first."""

    tasks: list[TaskSummary]
    total_count: Annotated[int, Meta(description="How many tasks pass the filters, over all pages.")]
    page: Annotated[int | None, Meta(description="null when the page was asked for by cursor.")]
    page_size: int
    next_cursor: Annotated[str | None, Meta(description="Send it as `cursor` for the next page; null: no more.")]
    total_is_minimum: Annotated[bool, Meta(description="There are more than `total_count`; counting stopped there.")]
    as_of: AsOf = UNSET


class EventEntry(Struct, kw_only=True, frozen=True):
    """One step of a task's history."""

    seq: Annotated[int, Meta(description="Counts from 1 within the task, without gaps.")]
    kind: str
    at: _Time
    attempt: int
    actor: Annotated[str, Meta(description="api, client, worker:<name>, maintenance.")]
    data: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]


class EventPage(Struct, kw_only=True, frozen=True):
    """A task's history, oldest first."""

    task_id: _Uuid
    events: list[EventEntry]
    next_cursor: str | None


def raw(text: str | None) -> Raw:
    """JSON text from the ledger in the form for an answer; SQL's NULL becomes ``null``."""
    return _NULL if text is None else Raw(text.encode())


def raw_of_ours(text: str | None) -> Raw:
    """As :func:`raw`, for JSON of which PostgreSQL may have written a space of its own. What msgspec refuses to read (a
    lone surrogate) stays as it is.
    """
    if text is None:
        return _NULL
    try:
        return Raw(msgspec.json.format(text.encode(), indent=-1))
    except msgspec.DecodeError:
        return raw(text)


WIRE_TYPES: list[Any] = [
    SubmitBody,
    BatchBody,
    Accepted,
    BatchAccepted,
    TaskStatus,
    TaskDetail,
    TaskPage,
    EventPage,
]

decode_submit = msgspec.json.Decoder(SubmitBody).decode
decode_batch = msgspec.json.Decoder(BatchBody).decode

#: For bodies whose integers are written as floats.
decode_submit_again = integers.decoder_of(SubmitBody)


_Items: Any = Annotated[list[integers.lenient(SubmitBody)], Meta(min_length=1, max_length=10_000)]  # type: ignore[misc]
_decode_lenient_batch = msgspec.json.Decoder(
    msgspec.defstruct("BatchBody", [("tasks", _Items)], forbid_unknown_fields=True, frozen=True)
).decode


def decode_batch_again(body: bytes) -> BatchBody:
    """As :data:`decode_submit_again`."""
    found: Any = _decode_lenient_batch(body)
    return BatchBody([integers.exact(SubmitBody, each) for each in found.tasks])
