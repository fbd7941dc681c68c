"""What a task keeps of the request that it came with."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from ledgerq_shared.process.logging import configure
from ledgerq_shared.process.tracing import Origin, checked_traceparent, start_tracing
from ledgerq_shared.settings import LogSettings, SettingsError, TracingSettings

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (GOOD, GOOD),
        ("01-" + GOOD[3:] + "-of-the-future", "01-" + GOOD[3:]),
        ("ff-" + GOOD[3:], None),
        (GOOD.upper(), None),
        (GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (GOOD.replace("b7ad6b7169203331", "0" * 16), None),
        (GOOD + "\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_kept_if_it_is_one(sent, kept):
    assert checked_traceparent(sent) == kept


@pytest.mark.parametrize("origin", [Origin("r-1", GOOD), Origin("r-1"), Origin(None, GOOD), Origin()])
def test_an_origin_is_read_as_it_was_written(origin):
    assert Origin.parse(origin.text()) == origin


def test_log_lines_have_the_request_and_the_trace():
    assert Origin("r-1", GOOD).log_fields() == {"request_id": "r-1", "trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert Origin().log_fields() == {}


def test_every_line_says_what_is_being_done_and_its_own_words_win(capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(LogSettings(log_format="json"), service="worker", context=lambda: {"task_id": "t-1", "attempt": 2})
        structlog.get_logger().info("from.structlog")
        logging.getLogger("users.module").warning("from the standard library")
        structlog.get_logger().info("about.another", task_id="t-2")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["task_id"], line["attempt"], line["service"]) for line in lines] == [
        ("from.structlog", "t-1", 2, "worker"),
        ("from the standard library", "t-1", 2, "worker"),
        ("about.another", "t-2", 2, "worker"),
    ]


def test_without_opentelemetry_the_setting_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(SettingsError, match=r"LEDGERQ_TRACING=otlp needs .* pip install 'ledgerq-worker\[otel\]'"):
        start_tracing(TracingSettings(tracing="otlp"), service="worker")
