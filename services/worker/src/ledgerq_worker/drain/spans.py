"""A span for each attempt, if somebody collects spans: it is a child of the request's span, however much time lies
between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ledgerq_shared.process.tracing import Origin, tracer
from ledgerq_worker.slot.ends import Failed
from ledgerq_worker.slot.legs import Leg


@contextmanager
def span_of(leg: Leg) -> Iterator[None]:
    """The span inside of which the attempt runs. To be called only if somebody collects spans."""
    from opentelemetry import trace

    task = leg.task
    attributes = {
        "ledgerq.task_id": task.id,
        "ledgerq.task_type": task.task_type,
        "ledgerq.queue": task.queue,
        "ledgerq.attempt": leg.attempt,
    }
    with tracer().start_as_current_span(
        task.task_type, _parent(task.trace), kind=trace.SpanKind.CONSUMER, attributes=attributes
    ) as span:
        yield
        span.set_attribute("ledgerq.state", str(leg.state))
        if isinstance(leg.end, Failed):
            span.set_status(trace.StatusCode.ERROR)
            span.record_exception(leg.end.exception)


def _parent(text: str | None) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    traceparent = Origin.parse(text).traceparent
    return None if traceparent is None else TraceContextTextMapPropagator().extract({"traceparent": traceparent})
