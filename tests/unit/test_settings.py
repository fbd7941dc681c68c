"""Settings: what users write becomes what drivers want, and a mistake is one line that keeps the password to itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from ledgerq_monitor.flower_settings import FlowerStores
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load
from ledgerq_worker.settings import MaintenanceSettings, WorkerSettings

SECRET = "s3cr3t-W0rd"
POSTGRES = "postgresql://u:p@h:5432/d"
STORES = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LEDGERQ_") or name in STORES:
            monkeypatch.delenv(name)


def stores(monkeypatch: pytest.MonkeyPatch, **environment: str) -> StoreSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(StoreSettings)


def refusal(monkeypatch: pytest.MonkeyPatch, settings: type[BaseSettings], **environment: str) -> str:
    """The one line that says what is wrong."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(settings)
    line = str(caught.value)
    assert len(line.splitlines()) == 1, line
    assert caught.value.__cause__ is None, "the cause would be logged, and it quotes the value"
    return line


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql://u:p@h/d"),
        ("PostgreSQL://u:p@h/d", "postgresql://u:p@h/d"),
        ("  postgresql://u:p@h/d\n", "postgresql://u:p@h/d"),
        ("postgresql+psycopg2://u:p+q@h/d", "postgresql://u:p+q@h/d"),
        ("postgresql://u:p%40@h:6432/d?sslmode=verify-full", "postgresql://u:p%40@h:6432/d?sslmode=verify-full"),
        ("postgresql:///d?host=/var/run/postgresql", "postgresql:///d?host=/var/run/postgresql"),
        ("postgresql://u@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d"),
        ("postgresql://u:p@[::1]:5432/d", "postgresql://u:p@[::1]:5432/d"),
        ("postgresql+asyncpg://u:p@h1:5432,h2:5432/d", "postgresql://u:p@h1:5432,h2:5432/d"),
        (
            "postgres://u:p@h1,h2:6432,[::1]/d?target_session_attrs=any",
            "postgresql://u:p@h1,h2:6432,[::1]/d?target_session_attrs=any",
        ),
        ("postgresql:///d?host=h1,h2&port=5432", "postgresql:///d?host=h1,h2&port=5432"),
    ],
)
def test_every_spelling_of_a_postgresql_url_becomes_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: str
):
    assert stores(monkeypatch, DATABASE_URL=written, REDIS_URL="redis://h").database_url == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", None),
        (" ", None),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+asyncpg://u@h1,h2:6432/d", "postgresql://u@h1,h2:6432/d"),
        ("postgresql://u@h/d?target_session_attrs=standby", "postgresql://u@h/d?target_session_attrs=standby"),
    ],
)
def test_a_replicas_url_is_spelled_as_the_primarys_and_may_ask_for_a_standby(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: str | None
):
    found = stores(monkeypatch, DATABASE_URL=POSTGRES, REDIS_URL="redis://h", DATABASE_REPLICA_URL=written)
    assert found.database_replica_url == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://h:1?protocol=3", "redis://h:1"),
        ("redis://h?db=3", "redis://h/3"),
        ("redis://:p%2Fw%3F@h:1/3?db=3&protocol=2", "redis://:p%2Fw%3F@h:1/3"),
        ("redis+socket:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("rediss://:p@h/1?ssl_cert_reqs=required", "rediss://:p@h/1?ssl_cert_reqs=required"),
        ("valkey://h/2", "redis://h/2"),
        ("rediss://h", "rediss://h?ssl_cert_reqs=required"),
        ("rediss://h/1?ssl_ca_certs=/ca.pem", "rediss://h/1?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=none"),
        ("valkeys://h/2", "rediss://h/2?ssl_cert_reqs=required"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        (" redis://h ", "redis://h"),
        ("sentinel://:p@h;sentinel://g/0?master_name=m", "sentinel://:p@h;sentinel://g/0?master_name=m"),
    ],
)
def test_every_spelling_of_a_redis_url_becomes_one_that_celery_knows(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: str
):
    settings = stores(monkeypatch, DATABASE_URL=POSTGRES, REDIS_URL=written)
    assert (settings.redis_url, settings.broker_url, settings.result_backend) == (meant, meant, meant)


@pytest.mark.parametrize(
    ("given", "broker", "backend"),
    [
        ({"REDIS_URL": "redis://r"}, "redis://r", "redis://r"),
        ({"CELERY_BROKER_URL": "redis://b"}, "redis://b", "redis://b"),
        ({"REDIS_URL": "redis://r", "CELERY_BROKER_URL": "redis://b"}, "redis://b", "redis://r"),
        ({"REDIS_URL": "redis://r", "CELERY_RESULT_BACKEND": "redis://k"}, "redis://r", "redis://k"),
        ({"CELERY_BROKER_URL": "redis://b", "CELERY_RESULT_BACKEND": "redis://k"}, "redis://b", "redis://k"),
        ({"REDIS_URL": "redis://r", "CELERY_BROKER_URL": " "}, "redis://r", "redis://r"),
    ],
)
def test_celerys_urls_are_filled_from_what_is_given(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], broker: str, backend: str
):
    settings = stores(monkeypatch, DATABASE_URL=POSTGRES, **given)
    assert (settings.broker_url, settings.result_backend) == (broker, backend)


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"REDIS_URL": "redis://h"}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": POSTGRES}, "REDIS_URL (or CELERY_BROKER_URL) is not set although DATABASE_URL is"),
        ({"DATABASE_URL": POSTGRES, "CELERY_RESULT_BACKEND": "redis://k"}, "REDIS_URL (or CELERY_BROKER_URL)"),
        ({"DATABASE_URL": "mysql://u@h/d"}, "DATABASE_URL: is not a PostgreSQL URL: it begins with 'mysql'"),
        ({"DATABASE_URL": ""}, "DATABASE_URL: is not a PostgreSQL URL: expected 'postgresql://'"),
        ({"DATABASE_URL": "postgresql://u@h:port/d"}, "DATABASE_URL: has a port that is not a number"),
        ({"DATABASE_URL": "postgresql://u@h:99999/d"}, "DATABASE_URL: has a port that is not a number"),
        ({"DATABASE_URL": "postgresql://u@h1:5432,h2:port/d"}, "DATABASE_URL: has a port that is not a number"),
        ({"DATABASE_URL": "postgresql://u@h1,,h2/d"}, "DATABASE_URL: has an empty place in its list of hosts"),
        ({"DATABASE_URL": "postgresql://u@h1:5432,/d"}, "DATABASE_URL: has an empty place in its list of hosts"),
        ({"DATABASE_URL": "postgresql:///d?host=h1,h2,h3&port=1,2"}, "DATABASE_URL: names 3 hosts and 2 ports"),
        ({"DATABASE_URL": "postgresql://u@h1,h2/d?hostaddr=1.1.1.1"}, "'host' and 'hostaddr' of different lengths"),
        ({"DATABASE_URL": "postgresql://u@h1,h2/d?target_session_attrs=standby"}, "a server that only reads"),
        ({"DATABASE_URL": "postgresql://u@h1,h2/d?target_session_attrs=best"}, "that is none of any, read-write"),
        (
            {"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h", "DATABASE_REPLICA_URL": "mysql://h/d"},
            "DATABASE_REPLICA_URL: is not a PostgreSQL URL: it begins with 'mysql'",
        ),
        (
            {
                "DATABASE_URL": POSTGRES,
                "REDIS_URL": "redis://h",
                "DATABASE_REPLICA_URL": "postgresql://h/d?target_session_attrs=primary",
            },
            "DATABASE_REPLICA_URL: has a target_session_attrs that means no standby",
        ),
        (
            {"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h", "LEDGERQ_REPLICA_MAX_LAG": "1"},
            "LEDGERQ_REPLICA_MAX_LAG: ",
        ),
        ({"DATABASE_URL": "postgresql://u@h/d?colour=red"}, "DATABASE_URL: has a parameter after '?' that"),
        (
            {"DATABASE_URL": POSTGRES, "REDIS_URL": "http://h"},
            "REDIS_URL: is not a Redis URL: it begins with 'http'",
        ),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h:port"}, "REDIS_URL: has a port that is not a number"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?socket_timeout=5"}, "'socket_timeout'"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?se-cret=5"}, "has a parameter after '?'"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?protocol=4"}, "neither 2 nor 3"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h/1?db=2"}, "two databases"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?db=x"}, "not the number of a database"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?db=1&db=2"}, "twice"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h?ssl_cert_reqs=none"}, "rediss://"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "rediss://h?ssl_cert_reqs=maybe"}, "ssl_cert_reqs"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "unix:///run/redis.sock"}, "redis+socket:///path/to/socket"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "sentinel://h:26379/0"}, "REDIS_URL: does not name the master"),
        ({"DATABASE_URL": POSTGRES, "REDIS_URL": "rediss+sentinel://h/0"}, "which is not supported: Sentinel by TLS"),
        (
            {"DATABASE_URL": POSTGRES, "REDIS_URL": "redis://h", "CELERY_BROKER_URL": "amqp://h"},
            "CELERY_BROKER_URL: is not a Redis URL: it begins with 'amqp'",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
):
    assert line in refusal(monkeypatch, StoreSettings, **environment)


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"u:{SECRET}@h:5432/d://",
        f"postgresql:/u:{SECRET}@h/d",
        f"mysql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:{SECRET}@[::1/d",
        f"postgresql://u:{SECRET}@h:{SECRET}/d",
        f"postgresql://u:a/{SECRET}@h/d?{SECRET}",
    ],
)
def test_no_mistake_in_a_url_shows_the_password(monkeypatch: pytest.MonkeyPatch, url: str):
    assert SECRET not in refusal(monkeypatch, StoreSettings, DATABASE_URL=url, REDIS_URL="redis://h")
    assert SECRET not in refusal(
        monkeypatch,
        StoreSettings,
        DATABASE_URL=POSTGRES,
        REDIS_URL=url.replace("postgresql", "redis").replace("@h/d", "@h:port/d"),
    )


@pytest.mark.parametrize(
    ("settings", "environment", "line"),
    [
        (WorkerSettings, {"LEDGERQ_WORKER_POOL": "gevent"}, "gevent is not supported: use prefork, threads or solo"),
        (WorkerSettings, {"LEDGERQ_WORKER_POOL": "eventlet"}, "LEDGERQ_WORKER_POOL: eventlet is not supported"),
        (WorkerSettings, {"LEDGERQ_WORKER_POOL": "fibers"}, "LEDGERQ_WORKER_POOL: "),
        (WorkerSettings, {"LEDGERQ_WORKER_CONCURRENCY": "0"}, "LEDGERQ_WORKER_CONCURRENCY: "),
        (WorkerSettings, {"LEDGERQ_WORKER_CONCURRENCY": "many"}, "LEDGERQ_WORKER_CONCURRENCY: "),
        (WorkerSettings, {"LEDGERQ_LEASE_SECONDS": "0.1"}, "LEDGERQ_LEASE_SECONDS: "),
        (WorkerSettings, {"LEDGERQ_GRACE_SECONDS": "-1"}, "LEDGERQ_GRACE_SECONDS: "),
        (MaintenanceSettings, {"LEDGERQ_QUARANTINE_AFTER": "0"}, "LEDGERQ_QUARANTINE_AFTER: "),
        (LogSettings, {"LEDGERQ_LOG_LEVEL": "loud"}, "LEDGERQ_LOG_LEVEL: "),
        (LogSettings, {"LEDGERQ_LOG_FORMAT": "xml"}, "LEDGERQ_LOG_FORMAT: "),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, settings: type[BaseSettings], environment: dict[str, str], line: str
):
    assert line in refusal(monkeypatch, settings, **environment)


@pytest.mark.parametrize("setting", ["lease_seconds", "grace_seconds", "claim_budget", "drain_seconds"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_time_is_a_finite_number(monkeypatch: pytest.MonkeyPatch, setting: str, value: str):
    name = f"LEDGERQ_{setting.upper()}"
    assert name in refusal(monkeypatch, WorkerSettings, **{name: value})


@pytest.mark.parametrize(
    ("written", "level"),
    [("INFO", "info"), ("Debug", "debug"), ("CRITICAL", "error"), ("fatal", "error"), ("warning", "warning")],
)
def test_log_levels_are_taken_in_celerys_spelling_too(monkeypatch: pytest.MonkeyPatch, written: str, level: str):
    monkeypatch.setenv("LEDGERQ_LOG_LEVEL", written)
    assert load(LogSettings).log_level == level


def test_a_worker_has_sensible_defaults(monkeypatch: pytest.MonkeyPatch):
    settings = load(WorkerSettings)
    assert settings.queues == ["default"]
    assert settings.slots == (os.cpu_count() or 1)
    assert settings.name.endswith(f":{os.getpid()}")
    monkeypatch.setenv("LEDGERQ_WORKER_QUEUES", " a, b ,,c ")
    assert load(WorkerSettings).queues == ["a", "b", "c"]


def test_the_solo_pool_has_one_slot_however_many_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEDGERQ_WORKER_POOL", "solo")
    monkeypatch.setenv("LEDGERQ_WORKER_CONCURRENCY", "8")
    assert load(WorkerSettings).slots == 1


def test_a_setting_may_stand_in_a_file_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "database_url").write_text("postgresql://from:file@h/d\n")
    (tmp_path / "redis_url").write_text("redis://file:6379/0\n")
    (tmp_path / "ledgerq_worker_queues").write_text("slow")
    loaded = stores(monkeypatch, LEDGERQ_SECRETS_DIR=str(tmp_path), REDIS_URL="redis://environment:6379/0")
    assert (loaded.database_url, loaded.broker_url) == ("postgresql://from:file@h/d", "redis://environment:6379/0")
    assert load(WorkerSettings).queues == ["slow"]


def test_a_bad_value_in_a_file_is_one_line_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "database_url").write_text(f"mysql:{SECRET}")
    line = refusal(monkeypatch, StoreSettings, LEDGERQ_SECRETS_DIR=str(tmp_path), REDIS_URL="redis://h")
    assert line.startswith("DATABASE_URL: ")
    assert SECRET not in line


def test_a_folder_of_secrets_that_is_not_there_or_not_text_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    missing = tmp_path / "nowhere"
    assert refusal(monkeypatch, StoreSettings, LEDGERQ_SECRETS_DIR=str(missing)) == (
        f"LEDGERQ_SECRETS_DIR: there is no folder {missing}"
    )
    (tmp_path / "database_url").write_bytes(b"\xff\xfe")
    assert refusal(monkeypatch, StoreSettings, LEDGERQ_SECRETS_DIR=str(tmp_path)) == (
        f"LEDGERQ_SECRETS_DIR: a file in {tmp_path} cannot be read: it is not UTF-8 text"
    )


def test_flower_needs_no_ledger(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://somewhere")
    assert load(FlowerStores).broker_url == "redis://somewhere"
