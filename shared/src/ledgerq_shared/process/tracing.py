"""Where a task comes from: the request's id and its W3C trace context, which are kept with the task in the ledger.

Both are one text in the column ``task.trace``: the request's id and, after a space, the ``traceparent``. They are kept,
and are in the worker's log lines, whether anybody collects spans or not. Spans need OpenTelemetry (the extra ``otel``)
and ``LEDGERQ_TRACING``; then FastAPI makes one for each request, and the worker one for each attempt; the trace context
in the ledger joins them.
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

from ledgerq_shared.process.output import plain
from ledgerq_shared.settings import SettingsError, TracingSettings

#: W3C Trace Context, version 00; later versions may only add to it. An id of zeros means "none".
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII
)
#: A traceparent of a later version may be longer; what we keep of it is this long.
_LENGTH = 55

#: Spans are sent at least once in this many milliseconds.
_SEND_EVERY = 500


class Origin(NamedTuple):
    """What a task keeps about where it comes from."""

    request_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> Origin:
        """Read from the column; an empty origin for null."""
        if not text:
            return cls()
        request_id, _, traceparent = text.partition(" ")
        return cls(request_id if request_id != "-" else None, traceparent or None)

    def text(self) -> str | None:
        """For the column; None if nothing is known."""
        if self.traceparent is None:
            return self.request_id
        return f"{self.request_id or '-'} {self.traceparent}"

    def log_fields(self) -> dict[str, str]:
        """The fields as log lines have them."""
        fields = {} if self.request_id is None else {"request_id": self.request_id}
        if self.traceparent is not None:
            fields["trace_id"] = self.traceparent[3:35]
        return fields


def checked_traceparent(text: str | None) -> str | None:
    """The ``traceparent`` if it is valid, else None: the standard says that a wrong one is to be ignored."""
    if text is None or not _TRACEPARENT.fullmatch(text):
        return None
    return text[:_LENGTH]


def start_tracing(settings: TracingSettings, *, service: str) -> None:
    """Collect spans in this process and its forks, if the settings ask for it.

    Raises:
        SettingsError: OpenTelemetry's SDK is not installed.
    """
    if settings.tracing == "off":
        return
    try:
        provider = _provider(settings.tracing, service)
    except ImportError as error:
        raise SettingsError(
            "LEDGERQ_TRACING={tracing} needs {module}, which is not installed: pip install 'ledgerq-{service}[otel]'",
            tracing=settings.tracing,
            module=error.name,
            service=service,
        ) from None
    from opentelemetry import trace

    trace.set_tracer_provider(provider)
    _Active.tracer = trace.get_tracer("ledgerq")
    _Active.provider = provider


def tracer() -> Any:
    """OpenTelemetry's tracer; None while nobody collects spans."""
    return _Active.tracer


def current_traceparent() -> str | None:
    """The span that this code runs in, as a ``traceparent``; None while nobody collects spans."""
    if _Active.tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def flush_spans() -> None:
    """Send the spans that have not been sent: the process is about to end."""
    if _Active.provider is not None:
        _Active.provider.force_flush()


class _Active:
    """OpenTelemetry's provider is one for each process; so is this."""

    tracer: Any = None
    provider: Any = None


def _provider(kind: str, service: str) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    if kind == "console":
        exporter = ConsoleSpanExporter(out=plain(sys.stderr), formatter=lambda span: f"{span.to_json(indent=None)}\n")
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()  # OpenTelemetry's own variables say where to
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
    provider = TracerProvider(resource=Resource.create({"service.name": f"ledgerq-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY))
    return provider
