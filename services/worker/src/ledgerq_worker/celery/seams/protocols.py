"""The *protocols* of messages: how Celery's worker converts protocol 1."""

from __future__ import annotations

from typing import Any

from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2


def as_version_2(message: Any, payload: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Body and headers in protocol 2 for a message whose payload is a dict, as in protocol 1.

    Raises:
        Exception: it is not a task's message, for one of many reasons.
    """
    convert = hybrid_to_proto2 if "args" in payload else proto1_to_proto2
    body, headers, *_ = convert(message, payload)
    return body, headers
