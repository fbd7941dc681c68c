"""Which existing applications are refused, and which are not."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task

from ledgerq_shared.settings import SettingsError
from ledgerq_worker.celery.fitness import check_settings, check_tasks

OURS = "redis://:secret@127.0.0.1:6380/2"

UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "pickle": ({"task_serializer": "pickle"}, "its task_serializer is 'pickle'"),
    "results as yaml": ({"result_serializer": "yaml"}, "its result_serializer is 'yaml'"),
    "no json": ({"accept_content": ["pickle"]}, "its accept_content has no 'json'"),
    "rabbitmq": ({"broker_url": "amqp://guest:secret@rabbit//"}, "its broker_url begins with 'amqp'"),
    "rabbitmq after redis": ({"broker_url": f"{OURS};amqp://rabbit"}, "begins with 'amqp'"),
    "several": ({"broker_url": [OURS, "pyamqp://rabbit"]}, "begins with 'pyamqp'"),
    "in memory": ({"broker_url": "memory://"}, "begins with 'memory'"),
    "sqs to write": ({"broker_write_url": "sqs://"}, "its broker_write_url begins with 'sqs'"),
    "another port": ({"broker_url": "redis://127.0.0.1/2"}, "(127.0.0.1:6379/2) than the worker's"),
    "another database": ({"broker_url": "redis://127.0.0.1:6380/3"}, "names another Redis"),
    "another host to read": ({"broker_read_url": "redis://h.invalid:6380/2"}, "its broker_read_url names another"),
    "gevent": ({"worker_pool": "gevent"}, "its worker_pool is 'gevent'"),
    "eventlet by its path": ({"worker_pool": "celery.concurrency.eventlet:TaskPool"}, "its worker_pool is"),
}

FIT: dict[str, dict[str, Any]] = {
    "nothing set": {},
    "the same": {"broker_url": OURS},
    "the same by another name": {"broker_url": "rediss://:secret@localhost:6380/2"},
    "more content": {"accept_content": ["application/json", "pickle"], "task_serializer": "application/json"},
    "sentinel": {"broker_url": "sentinel://a:26379;sentinel://b:26379"},
    "threads": {"worker_pool": "threads"},
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(name, raising=False)


def app_of(conf: dict[str, Any]) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.mark.parametrize("name", UNFIT)
def test_settings_that_cannot_work_are_refused_without_passwords(name: str):
    conf, said = UNFIT[name]
    with pytest.raises(SettingsError) as refused:
        check_settings(app_of(conf), broker_url=OURS, pool_is_given=False)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_broker_that_the_constructor_was_given_counts_too():
    with pytest.raises(SettingsError, match="begins with 'amqp'"):
        check_settings(Celery("shop", broker="amqp://", set_as_current=False), broker_url=OURS, pool_is_given=False)


@pytest.mark.parametrize("url", ["amqp://guest@rabbit//", "redis://elsewhere.invalid/0"])
def test_the_broker_that_celery_takes_from_the_environment_counts_and_not_the_one_in_the_code(
    monkeypatch: pytest.MonkeyPatch, url: str
):
    monkeypatch.setenv("CELERY_BROKER_URL", OURS)
    check_settings(app_of({"broker_url": url}), broker_url=OURS, pool_is_given=False)
    with pytest.raises(SettingsError, match="its broker_write_url"):
        check_settings(app_of({"broker_write_url": url}), broker_url=OURS, pool_is_given=False)
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    with pytest.raises(SettingsError, match="its broker_url"):
        check_settings(app_of({"broker_url": OURS}), broker_url=OURS, pool_is_given=False)


@pytest.mark.parametrize("name", FIT)
def test_settings_that_work_are_not_refused(name: str):
    check_settings(app_of(FIT[name]), broker_url=OURS, pool_is_given=False)


def test_the_pool_that_somebody_has_chosen_counts():
    check_settings(app_of({"worker_pool": "gevent"}), broker_url=OURS, pool_is_given=True)


class _Batches(Task):
    abstract = True

    def Strategy(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """As in celery-batches."""


def _body() -> None:
    """A task's body."""


def _define(app: Celery, options: dict[str, Any]) -> None:
    app.task(name=f"shop.{len(app.tasks)}", shared=False, **options)(_body)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"serializer": "pickle"}, "is 'pickle', and LedgerQ reads only JSON"),
        ({"base": _Batches}, "has a Strategy of its own"),
        ({"Strategy": "shop.strategies:own"}, "has a Strategy of its own"),
    ],
)
def test_tasks_that_cannot_work_are_refused(options: dict[str, Any], said: str):
    app = app_of({})
    _define(app, options)
    app.finalize()
    with pytest.raises(SettingsError, match=said):
        check_tasks(app)


def test_usual_tasks_are_not_refused():
    app = app_of({})
    for options in ({}, {"serializer": "json"}, {"acks_late": True, "rate_limit": "2/s"}):
        _define(app, options)
    app.finalize()
    check_tasks(app)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("redis://127.0.0.1:6379?db=3", None),
        ("redis://127.0.0.1/0?db=3&socket_timeout=5", None),
        ("redis://127.0.0.1:6379/0", "names another Redis"),
        ("REDIS://127.0.0.1:port/3", "has a port or a database that is no number"),
        ("redis://127.0.0.1:port/3", "has a port or a database that is no number"),
        ("redis://127.0.0.1:6379/three", "has a port or a database that is no number"),
    ],
)
def test_a_broker_url_means_what_redis_urls_says_it_means(url: str, refused: str | None):
    app = Celery("shop", broker=url)
    if refused is None:
        check_settings(app, broker_url="redis://127.0.0.1:6379/3", pool_is_given=True)
        return
    with pytest.raises(SettingsError, match=refused):
        check_settings(app, broker_url="redis://127.0.0.1:6379/3", pool_is_given=True)
