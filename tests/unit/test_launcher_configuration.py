from __future__ import annotations

import os
from pathlib import Path

import psycopg2
import pytest

from launcher import checks
from launcher.configuration import (
    REDIS_VARIABLES,
    configure,
    maintenance_environment,
    read_environment,
    service_environment,
    worker_environment,
)
from launcher.errors import LauncherError, UsageError
from launcher.options import parse
from launcher.screen import visible_host
from ledgerq_shared.settings import StoreSettings

PLAIN = "postgresql://u:p@h/d"


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch):
    for name in ("DATABASE_URL", *REDIS_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def stores(**urls):
    return StoreSettings(**{"database_url": PLAIN, "redis_url": "redis://h/0", **urls})


def test_nothing_configured_means_embedded_servers_and_defaults():
    configuration = configure({}, parse([]))
    assert configuration.stores is None
    assert configuration.data_folder == Path(".ledgerq")
    assert (configuration.api_host, configuration.api_port) == ("127.0.0.1", 8000)
    assert configuration.monitor_port == 8001


def test_the_flag_wins_over_the_environments_port():
    assert configure({"LEDGERQ_API_PORT": "9001"}, parse([])).api_port == 9001
    assert configure({"LEDGERQ_API_PORT": "9001"}, parse(["--api-port", "9002"])).api_port == 9002


@pytest.mark.parametrize("missing", [{"DATABASE_URL": PLAIN}, *({name: "redis://h"} for name in REDIS_VARIABLES)])
def test_half_a_configuration_is_refused(missing):
    with pytest.raises(UsageError, match=r"is set but .* is not: set both, or neither"):
        configure(missing, parse([]))


@pytest.mark.parametrize("name", ["LEDGERQ_API_PORT", "LEDGERQ_MONITOR_PORT", "LEDGERQ_GRACE_SECONDS"])
@pytest.mark.parametrize("value", ["-1", "x", "99999999"])
def test_a_number_that_is_none_names_its_variable(name, value):
    with pytest.raises(UsageError, match=name):
        configure({name: value}, parse([]))


def test_services_are_told_all_four_urls_in_plain_form():
    told = service_environment({"HOME": "/h"}, parse([]), configure({}, parse([])), stores())
    assert {name: told[name] for name in ("DATABASE_URL", *REDIS_VARIABLES)} == {
        "DATABASE_URL": PLAIN,
        **dict.fromkeys(REDIS_VARIABLES, "redis://h/0"),
    }
    assert told["HOME"] == "/h"
    assert "LEDGERQ_DEBUG" not in told


def test_only_the_worker_is_told_the_workers_flags():
    options = parse(["--worker-concurrency", "3", "--worker-loglevel", "error", "--debug"])
    told = service_environment({}, options, configure({}, options), stores())
    assert told["LEDGERQ_DEBUG"] == "true"
    assert "LEDGERQ_WORKER_CONCURRENCY" not in told
    assert "LEDGERQ_LOG_LEVEL" not in told
    worker = worker_environment(told, options, configure({}, options))
    assert (worker["LEDGERQ_WORKER_CONCURRENCY"], worker["LEDGERQ_LOG_LEVEL"]) == ("3", "error")


def test_an_env_file_adds_what_is_not_set_and_an_empty_url_is_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGERQ_LOCALE", "zh")
    monkeypatch.setenv("REDIS_URL", "  ")
    monkeypatch.setenv("LEDGERQ_WORKER_NAME", "kept")  # so that monkeypatch restores what the file sets
    monkeypatch.delenv("LEDGERQ_WORKER_NAME")
    (tmp_path / ".env").write_text("LEDGERQ_LOCALE=en\nLEDGERQ_WORKER_NAME='a b'\nDATABASE_URL=\n")
    read_environment(tmp_path)
    assert os.environ["LEDGERQ_LOCALE"] == "zh"
    assert os.environ["LEDGERQ_WORKER_NAME"] == "a b"
    assert "DATABASE_URL" not in os.environ
    assert "REDIS_URL" not in os.environ


@pytest.mark.parametrize("url", ["postgresql://u:p@w@h/d", "postgresql://u:p#w@h/d", "postgresql://u:p/w@h/d"])
def test_unescaped_characters_in_a_password_are_named_before_they_become_a_host(url):
    with pytest.raises(UsageError, match="percent-encode"):
        checks.postgres_answers(url)


def test_a_password_that_the_driver_repeats_is_masked(monkeypatch):
    def connect(*arguments, **options):
        raise psycopg2.OperationalError("cannot log in with s%3Acret or s:cret\nsecond line")

    monkeypatch.setattr(psycopg2, "connect", connect)
    with pytest.raises(LauncherError) as error:
        checks.postgres_answers("postgresql://u:s%3Acret@h/d")
    assert str(error.value) == "PostgreSQL (DATABASE_URL): cannot log in with *** or ***"


@pytest.mark.parametrize(
    ("host", "visible"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")],
)
def test_the_screen_shows_a_host_that_a_browser_reaches(host, visible):
    assert visible_host(host) == visible


@pytest.mark.parametrize(
    ("flags", "port", "ports"),
    [
        (["--run-monitor"], None, ("8002", "8003")),
        (["--run-monitor"], "", ("8002", "8003")),
        (["--run-monitor"], "9100", ("9100", "9101")),
        (["--run-monitor"], "0", ("0", "0")),
        ([], None, ("0", "0")),
        ([], "9100", ("9100", "9101")),
    ],
)
def test_with_the_monitor_the_worker_and_maintenance_are_scraped_too(flags, port, ports):
    environment = {"X": "y"} if port is None else {"X": "y", "LEDGERQ_METRICS_PORT": port}
    options = parse(flags)
    configuration = configure(environment, options)
    worker = worker_environment(environment, options, configuration)
    maintenance = maintenance_environment(worker, configuration)
    assert (worker["LEDGERQ_METRICS_PORT"], maintenance["LEDGERQ_METRICS_PORT"]) == ports
    assert maintenance["X"] == "y"


@pytest.mark.parametrize("port", ["65535", "many"])
def test_a_port_for_metrics_must_leave_the_next_one_to_maintenance(port):
    with pytest.raises(UsageError, match="LEDGERQ_METRICS_PORT"):
        configure({"LEDGERQ_METRICS_PORT": port}, parse([]))
