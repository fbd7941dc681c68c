"""What Celery's pool writes past the log."""

from __future__ import annotations

import logging

from billiard import util

from ledgerq_worker.celery.seams.sayings import log_sayings


def test_the_death_of_a_pool_process_is_told_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr("celery.apps.worker.safe_say", None)
    logger = util.get_logger()
    monkeypatch.setattr(logger, "propagate", False)
    log_sayings()
    with caplog.at_level(logging.ERROR):
        util.error("Process %r pid:%r exited with %r", "ForkPoolWorker-1", 7, "signal 9 (SIGKILL)")
    assert "ForkPoolWorker-1" in caplog.text
