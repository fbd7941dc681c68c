"""The *protocols* of messages: what Celery's worker makes of the first one."""

from __future__ import annotations

from typing import Any

from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2


def as_version_2(message: Any, payload: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Body and headers of protocol 2 of a message whose payload is a dict, as protocol 1 has it.

    Raises:
        Exception: it is no message of a task, in one of many ways.
    """
    convert = hybrid_to_proto2 if "args" in payload else proto1_to_proto2
    body, headers, *_ = convert(message, payload)
    return body, headers
