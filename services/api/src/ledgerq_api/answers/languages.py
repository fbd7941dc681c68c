"""Which of the two languages a client reads."""

from __future__ import annotations

import functools

from ledgerq_api.requests.origin import request_header
from ledgerq_shared.languages import DEFAULT, Locale, say

#: Of the users' own example: a submit's message. Everything else is English.
SUBMIT_DEFAULT: Locale = "zh"

SUBMITTED = say("Task submitted")
EXISTS = say("A task with this unique_key exists already")


#: Browsers send some dozens of bytes. A longer header is not read to its end, and is never kept.
_LONGEST = 256


def choose(accept_language: bytes, default: Locale) -> Locale:
    """The language that an ``Accept-Language`` header prefers among ours; ``default`` if it names neither."""
    return _chosen(accept_language[:_LONGEST], default)


def of_request(default: Locale | None) -> Locale:
    """The language for the client whose request is being answered.

    Args:
        default: what `LEDGERQ_LOCALE` says; None: nothing.
    """
    return choose(request_header(b"accept-language") or b"", default or DEFAULT)


@functools.lru_cache(maxsize=256)
def _chosen(accept_language: bytes, default: Locale) -> Locale:
    best: Locale = default
    best_quality = 0.0
    for entry in accept_language.decode("latin-1").lower().split(","):
        tag, _, parameters = entry.strip().partition(";")
        language = tag.strip().split("-")[0]
        quality = _quality(parameters)
        if language in {"zh", "en"} and quality > best_quality:
            best, best_quality = ("zh" if language == "zh" else "en"), quality
    return best


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
