"""Requests that were turned away, and why: a metric, and now and then a log line that names an address."""

from __future__ import annotations

from ledgerq_api import metrics
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.process.sampling import SampledLog

_sampled = SampledLog()


def note_refusal(error: LedgerQError, address: str, **fields: object) -> None:
    """Count a refusal, and log it unless the same kind was logged just now.

    Args:
        error: the error that the client gets.
        address: the client's address; empty if it is not known.
        fields: fields for the line, such as the id of the key, but never a key.
    """
    metrics.refused.labels(error.code).inc()
    _sampled.note("api.refused", error.code, address=address, **fields)
