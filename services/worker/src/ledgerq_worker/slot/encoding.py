"""Values that go into the ledger and come out of it: JSON texts, with clear errors for what JSON cannot hold."""

from __future__ import annotations

import json
import traceback as traceback_module
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

# Untyped in kombu; Celery's own JSON, which keeps dates, UUIDs and decimals.
celery_dumps: Callable[[Any], str] = kombu_json.dumps
celery_loads: Callable[[str], Any] = kombu_json.loads

#: The greatest size of a result, or of a task's parameters, as JSON, in bytes.
MAX_VALUE_BYTES = 1024 * 1024
_MAX_TEXT = 64 * 1024

_SOURCE = Path(__file__).parents[2]
#: Where the code is that calls a task's code: its frames tell the task's author nothing.
_MACHINERY = (
    f"{Path(celery.__file__).parent}/",
    f"{_SOURCE / 'ledgerq_worker'}/",
    str(_SOURCE / "clients" / "celery" / "base_tasks.py"),
)


class ResultNotSerializable(EncodeError):
    """The task returned something that JSON cannot hold."""


class ResultTooLarge(EncodeError):
    """The task returned more than a result may hold."""


def encode_result(value: Any) -> str:
    """A return value as JSON.

    Dates, UUIDs, decimals, enums and Pydantic models become the JSON that people expect; any other value that is not
    JSON is an error that names the type.

    Raises:
        ResultNotSerializable: a set, bytes, NaN, an object, a value that contains itself.
        ResultTooLarge: more than 1 MiB.
        SoftTimeLimitExceeded: the task's soft limit was reached meanwhile.
    """
    try:
        text = _encode(value)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # `model_dump` is the user's code and may raise anything
        raise ResultNotSerializable(
            f"The return value of type {type(value).__name__} is not JSON: {error}. "
            "Return dicts with text keys, lists, text, numbers, booleans or None."
        ) from None
    if (size := _stored_bytes(text)) > MAX_VALUE_BYTES:
        raise ResultTooLarge(
            f"The return value is {size:,} bytes as JSON; at most {MAX_VALUE_BYTES:,} are kept. "
            "Store large output elsewhere and return where it is."
        )
    return text


def encode_arguments(args: Any, kwargs: Any) -> tuple[str | None, str]:
    """Arguments of a Celery message as ``(args, kwargs)``, in Celery's own JSON (which keeps dates, UUIDs, decimals).

    Raises:
        EncodeError: not JSON, or more than 1 MiB.
    """
    texts = (
        _celery_text(list(args), "The arguments") if args else None,
        _celery_text(dict(kwargs or {}), "The arguments"),
    )
    size = sum(_stored_bytes(text) for text in texts if text)
    if size > MAX_VALUE_BYTES:
        raise EncodeError(
            f"The arguments are {size:,} bytes as JSON; at most {MAX_VALUE_BYTES:,} are accepted. "
            "Store large input elsewhere and pass where it is."
        )
    return texts


def encode_celery(value: Any) -> str:
    """Signatures and headers of a Celery message as JSON.

    Raises:
        EncodeError: not JSON.
    """
    return _celery_text(value, "The callbacks and headers")


def _celery_text(value: Any, what: str) -> str:
    try:
        # Celery's JSON would write NaN as it is, which is not JSON: PostgreSQL would refuse it, together with its whole
        # batch.
        return _keepable(lambda ascii_only: _CELERY_ENCODERS[ascii_only](value))
    except Exception as error:
        raise EncodeError(f"{what} are not JSON: {error}") from error


def decode(text: str | None, *, from_celery: bool) -> Any:
    """Decode what was stored, in Celery's own JSON or as plain JSON from the API. None for null."""
    if text is None:
        return None
    if text == "{}":  # many tasks have no arguments, so it is worth saving the decoder's work
        return {}
    return celery_loads(text) if from_celery else json.loads(text)


def original_of(error: BaseException, raised: object) -> BaseException:
    """The exception that the user's code raised: ``raised``, if ``error`` replaces it because pickle cannot hold it.

    Celery uses the nearest ancestor class that can be pickled (a `ValueError` for a `Declined`), or a wrapper.
    """
    if not isinstance(raised, BaseException):
        return error
    if isinstance(error, UnpickleableExceptionWrapper):
        return raised if error.exc_cls_name == type(raised).__name__ else error
    return raised if isinstance(raised, type(error)) else error


def describe_error(error: BaseException, traceback: str | None, *, retryable: bool = True) -> dict[str, Any]:
    """An exception in the form that the ledger keeps: ``{type, message, traceback, retryable}``, each of bounded
    size.
    """
    try:
        message = str(error)
    except Exception as broken:  # an exception's __str__ is the user's code
        message = f"<the message could not be read: {type(broken).__name__}>"
    if traceback is None:
        traceback = "".join(traceback_module.format_exception(type(error), error, from_the_tasks_code(error)))
    # Celery wraps what cannot be pickled; people look for the exception that their code raised.
    name = error.exc_cls_name if isinstance(error, UnpickleableExceptionWrapper) else type(error).__name__
    return {
        "type": name,
        "message": message[:_MAX_TEXT],
        "traceback": traceback[-_MAX_TEXT:],
        "retryable": retryable,
    }


def from_the_tasks_code(error: BaseException) -> TracebackType | None:
    """The error's traceback from the first frame of the task's own code; whole if there is none."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_MACHINERY):
        frame = frame.tb_next
    return frame or error.__traceback__


def to_json(value: Any) -> str:
    """A value that is known to be JSON, as compact text."""
    return _encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _keepable(dump: Callable[[bool], str]) -> str:
    """JSON text that PostgreSQL can keep: unchanged, or in pure ASCII if it has a lone surrogate, which has no UTF-8
    form. (A NUL is always an escape.)

    Args:
        dump: makes the text; its argument says whether in pure ASCII.
    """
    text = dump(False)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return dump(True)
    return text


def _stored_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _encode(value: Any) -> str:
    return _keepable(lambda ascii_only: _ENCODERS[ascii_only](value))


_ENCODERS = [
    json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"), default=_plain).encode
    for ascii_only in (False, True)
]


_CELERY_ENCODERS = [
    kombu_json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False).encode for ascii_only in (False, True)
]


def celery_json(value: Any) -> Any:
    """A value in the form of Celery's JSON: signatures become dicts, dates become tagged dicts."""
    return json.loads(celery_dumps(value))
