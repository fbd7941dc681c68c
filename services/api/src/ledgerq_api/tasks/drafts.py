"""Turns a decoded submit body into a task that the ledger can take, or says why that is not possible."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from ledgerq_api.answers.problems import from_msgspec
from ledgerq_api.auth.callers import Caller
from ledgerq_api.catalogue import Catalogue, TaskType
from ledgerq_api.requests.bodies import MAX_DEPTH
from ledgerq_api.tasks.schemas import SubmitBody
from ledgerq_shared.errors import InvalidParameters, InvalidRequest
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.languages import say
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions

MAX_PARAMETERS = 1024 * 1024
MAX_METADATA = 64 * 1024

#: Times outside of these years are typing errors, and databases and languages disagree about them.
_YEARS = range(1970, 9000)

#: How many reasons one answer names; a list of ten thousand wrong items would have ten thousand.
_MOST_REASONS = 20

_decode = msgspec.json.Decoder().decode


def draft(
    body: SubmitBody,
    catalogue: Catalogue,
    caller: Caller,
    place: str = "#",
    *,
    task_id: UUID | None = None,
    trace: str | None = None,
) -> NewTask:
    """A new task.

    Args:
        caller: who submits it.
        place: JSON pointer of the body within the request, for error messages.
        task_id: its id, if one was made just now; None: a new one is made.
        trace: the request that submits it.

    Raises:
        UnknownTaskType, NoTaskTypes, InvalidParameters, InvalidRequest
    """
    task_type = catalogue.find(body.task_type, f"{place}/task_type")
    return NewTask(
        task_id or new_task_id(),
        task_type.name,
        task_type.queue if body.queue is None else _queue(body.queue, place),
        _parameters(body, task_type, f"{place}/task_parameters"),
        task_type.priority if body.priority is None else body.priority,
        caller.actor,
        _options(body, place, caller),
        trace,
    )


def _parameters(body: SubmitBody, task_type: TaskType, place: str) -> str:
    text, value = _object(body.task_parameters, place, MAX_PARAMETERS)
    validator = task_type.validator
    if validator is not None and not validator.is_valid(value):
        raise _misfit(validator, value, task_type, place)
    return text


def _misfit(validator: Any, value: Any, task_type: TaskType, place: str) -> InvalidParameters:
    reasons: list[dict[str, str]] = []
    for error in validator.iter_errors(value):
        if len(reasons) == _MOST_REASONS:
            break
        pointer = place + "".join(f"/{_escaped(part)}" for part in error.instance_path)
        reasons.append({"detail": error.message[:500], "pointer": pointer})
    first = reasons[0]
    where = first["pointer"].removeprefix("#/")
    return InvalidParameters(
        say("{where}: {message} ({name})", where=where, message=first["detail"], name=task_type.name), errors=reasons
    )


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _object(raw: msgspec.Raw, place: str, limit: int) -> tuple[str, dict[str, Any]]:
    """A JSON object, as text and decoded, after a check for values that no ledger or no worker could hold."""
    size = len(memoryview(raw))
    if size > limit:
        raise _wrong(place, f"is {size:,} bytes long; at most {limit:,} are allowed")
    encoded = bytes(raw)
    try:
        value = _decode(encoded)
    except msgspec.ValidationError as error:
        raise from_msgspec(error, place) from None
    except RecursionError:
        raise _wrong(place, f"is nested more than {MAX_DEPTH} levels deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _wrong(place, "holds text that is not Unicode (a lone surrogate, or bytes that are not UTF-8)") from None
    if type(value) is not dict:
        raise _wrong(place, "must be a JSON object")
    # Counting brackets is cheap and settles the question for all but strange bodies.
    if encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise _wrong(place, f"is nested more than {MAX_DEPTH} levels deep")
    return encoded.decode(), value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in {dict, list}
        ]
        if not level:
            return False
    return True


def _options(body: SubmitBody, place: str, caller: Caller) -> NewTaskOptions | None:
    """The fields that most submits leave out; None if this one left them out."""
    if body.is_plain:
        return None
    metadata = None
    if bytes(body.metadata) != b"null":
        metadata = _object(body.metadata, f"{place}/metadata", MAX_METADATA)[0]
    if body.eta is not None and body.countdown is not None:
        raise _wrong(f"{place}/countdown", "cannot be given together with eta")
    if body.time_limit and body.soft_time_limit and body.soft_time_limit >= body.time_limit:
        raise _wrong(f"{place}/soft_time_limit", "must be below time_limit")
    _check_unique(body, place)
    expires_at = body.expires if isinstance(body.expires, datetime) else None
    return NewTaskOptions(
        run_at=_moment(body.eta, f"{place}/eta"),
        countdown=body.countdown or None,
        expires_at=_moment(expires_at, f"{place}/expires"),
        expires_in=body.expires if isinstance(body.expires, float) else None,
        max_retries=body.max_retries,
        time_limit=body.time_limit,
        soft_time_limit=body.soft_time_limit,
        on_worker_lost=body.on_worker_lost,
        metadata=metadata,
        tags=_tags(body.tags, f"{place}/tags"),
        unique_key=body.unique_key,
        unique_policy=body.unique_policy,
        unique_ttl=body.unique_ttl,
        sees_own=True if body.unique_key is not None and not caller.sees_all else None,
        ends_own=True if body.unique_policy == "replace" and not caller.ends_all else None,
    )


def _check_unique(body: SubmitBody, place: str) -> None:
    if body.unique_key is None:
        for name in ("unique_policy", "unique_ttl"):
            if getattr(body, name) is not None:
                raise _wrong(f"{place}/{name}", "needs a unique_key")
    elif "\0" in body.unique_key:
        raise _wrong(f"{place}/unique_key", "holds a NUL character")


def _queue(name: str, place: str) -> str:
    if name.endswith("\n"):  # "$" of the pattern lets it pass
        raise _wrong(f"{place}/queue", "ends with a line break")
    return name


def _moment(moment: datetime | None, place: str) -> datetime | None:
    if moment is None:
        return None
    if moment.year not in _YEARS:
        raise _wrong(place, f"must be between the years {_YEARS.start} and {_YEARS.stop}")
    return moment.astimezone(UTC)


def _tags(tags: list[str] | None, place: str) -> list[str] | None:
    if not tags:
        return None
    for index, tag in enumerate(tags):
        if "\0" in tag:
            raise _wrong(f"{place}/{index}", "holds a NUL character")
    return list(dict.fromkeys(tags))


def _wrong(pointer: str, reason: str) -> InvalidRequest:
    kind = InvalidParameters if "/task_parameters" in pointer else InvalidRequest
    return kind(f"{pointer.removeprefix('#/')} {reason}.", errors=[{"detail": reason, "pointer": pointer}])
