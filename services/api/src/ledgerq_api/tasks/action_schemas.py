"""The wire form of actions on a task: what clients ask for and what they are told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Union, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ledgerq_api.requests import integers
from ledgerq_api.tasks.schemas import SubmitBody
from ledgerq_shared.states import State

_Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
_Time = Annotated[datetime, Meta(tz=True)]
_Reason = Annotated[
    str, Meta(max_length=1000, pattern=r"^[^\x00]*$", description="Why, for the task's history; in your own words.")
]


class CancelBody(Struct, forbid_unknown_fields=True, frozen=True):
    """How to cancel a task."""

    terminate: Annotated[
        bool,
        Meta(
            description="Kill the process that runs it, if it runs in one of its own (pool `prefork`). Without, and in "
            "the other pools, a running task ends when it asks (`raise_if_cancelled`)."
        ),
    ] = False
    reason: _Reason | None = None


class RetryBody(Struct, forbid_unknown_fields=True, frozen=True):
    """Nothing needs to be said."""

    reason: _Reason | None = None


class CancelAnswer(Struct, kw_only=True, frozen=True):
    """What the cancel has come to."""

    task_id: _Uuid
    status: Annotated[
        State,
        Meta(
            description="REVOKED: it will never run. STARTED: it runs, and was asked to end. PENDING, RETRY: a worker "
            "has claimed it and has heard that it is not to begin it, or has been silent for two seconds."
        ),
    ]
    cancel_requested: bool
    terminate: bool


class RetryAnswer(Struct, kw_only=True, frozen=True):
    """The task will run again."""

    task_id: _Uuid
    status: State


class RerunAnswer(Struct, kw_only=True, frozen=True):
    """The new task is in the ledger."""

    task_id: _Uuid
    status: State
    rerun_of: _Uuid


class Finding(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One reason why the task is where it is."""

    code: Annotated[str, Meta(description="Stable; see the list in the call's description.")]
    text: Annotated[str, Meta(description="For people, in Chinese or English by `Accept-Language`.")]
    worker: str | None = None
    since: _Time | None = None
    until: _Time | None = None
    count: int | None = None


class Explanation(Struct, kw_only=True, frozen=True):
    """Why a task is not running, or that it is; what matters most comes first."""

    task_id: _Uuid
    status: State
    findings: list[Finding]


def _rerun_fields() -> list[tuple[str, Any, Any]]:
    """The fields of a submit except the task's type; each may be left out."""
    hints = get_type_hints(SubmitBody, include_extras=True)
    return [(name, Union[hint, UnsetType], UNSET) for name, hint in hints.items() if name != "task_type"]  # noqa: UP007


RerunBody = msgspec.defstruct(
    "RerunBody",
    _rerun_fields(),
    forbid_unknown_fields=True,
    frozen=True,
    namespace={"__doc__": "What the new task has otherwise."},
)

WIRE_TYPES: list[Any] = [
    CancelBody,
    RetryBody,
    RerunBody,
    CancelAnswer,
    RetryAnswer,
    RerunAnswer,
    Explanation,
]

decode_cancel = msgspec.json.Decoder(CancelBody).decode
decode_retry = msgspec.json.Decoder(RetryBody).decode
decode_rerun = msgspec.json.Decoder(RerunBody).decode
decode_rerun_again = integers.decoder_of(RerunBody)
