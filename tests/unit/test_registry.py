"""What a Celery application's tasks look like in the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, signals

from ledgerq_worker.catalogue.registry import TaskTypeError, TaskTypeSpec, task_types

# Celery deprecates a task's own queue and priority; existing applications have them all the same.
pytestmark = pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("registry", broker="memory://", set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield app


def spec(app: Celery, **options: Any) -> TaskTypeSpec:
    """The catalogue's entry of a task declared with these options."""

    @app.task(name="proj.tasks.job", shared=False, **options)
    def job() -> None:
        pass

    return named(app, "proj.tasks.job")


def named(app: Celery, name: str) -> TaskTypeSpec:
    return next(entry for entry in task_types(app) if entry.name == name)


def test_the_catalogue_is_sorted_and_leaves_out_what_celery_and_ledgerq_keep_for_themselves(app: Celery):
    def job() -> None: ...

    for name in ("z.task", "a.task", "ledgerq.drain", "celeryproj.task"):
        app.task(job, name=name, shared=False)
    names = [entry.name for entry in task_types(app)]
    assert names == sorted(names)
    assert {"a.task", "celeryproj.task", "z.task"} <= set(names)
    assert not [name for name in names if name.startswith(("celery.", "ledgerq."))]


def test_a_spec_is_plain_json(app: Celery):
    entry = spec(app, rate_limit="10/m", time_limit=5)
    assert json.loads(json.dumps([entry.parameters_schema, entry.options])) == [
        entry.parameters_schema,
        entry.options,
    ]


def test_the_doc_string_is_dedented(app: Celery):
    @app.task(name="documented", shared=False)
    def documented() -> None:
        """Do it.

        And well.
        """

    assert named(app, "documented").doc == "Do it.\n\nAnd well."


def test_a_task_without_a_doc_string_does_not_have_that_of_celery(app: Celery):
    class Bare(Task):
        name = "bare"

        def run(self) -> None:
            pass

    class Told(Task):
        """Tells about itself."""

        name = "told"

        def run(self) -> None:
            """Not shown: the class has a doc string."""

    app.register_task(Bare())
    app.register_task(Told())
    assert spec(app).doc == ""
    assert named(app, "bare").doc == ""
    assert named(app, "told").doc == "Tells about itself."


def test_a_class_based_task_has_the_parameters_of_its_run_method(app: Celery):
    class Add(Task):
        name = "add"

        def run(self, x: int, y: int = 1) -> int:
            return x + y

    app.register_task(Add())
    schema = named(app, "add").parameters_schema
    assert schema["properties"] == {"x": {"type": "integer"}, "y": {"type": "integer", "default": 1}}
    assert schema["required"] == ["x"]


OPTIONS = {
    "max_retries": 3,
    "time_limit": None,
    "soft_time_limit": None,
    "on_worker_lost": "rerun",
    "ignore_result": False,
    "rate_limit": None,
    "priority": None,
}


@pytest.mark.parametrize(
    ("declared", "configured", "expected"),
    [
        ({}, {}, {}),
        ({"max_retries": None}, {}, {"max_retries": None}),
        ({"max_retries": 0}, {}, {"max_retries": 0}),
        ({"time_limit": 30}, {"task_time_limit": 60}, {"time_limit": 30}),
        ({}, {"task_time_limit": 60, "task_soft_time_limit": 50}, {"time_limit": 60, "soft_time_limit": 50}),
        ({"soft_time_limit": 1.5}, {}, {"soft_time_limit": 1.5}),
        ({"on_worker_lost": "fail"}, {}, {"on_worker_lost": "fail"}),
        ({"ignore_result": True}, {}, {"ignore_result": True}),
        ({}, {"task_ignore_result": True}, {"ignore_result": True}),
        ({"ignore_result": False}, {"task_ignore_result": True}, {"ignore_result": False}),
        ({"rate_limit": "10/m"}, {}, {"rate_limit": "10/m"}),
        ({}, {"task_default_rate_limit": "1/s"}, {"rate_limit": "1/s"}),
        ({"priority": 0}, {"task_default_priority": 5}, {"priority": 0}),
        ({}, {"task_default_priority": 5}, {"priority": 5}),
    ],
)
def test_a_tasks_own_options_count_before_the_configured_ones(
    app: Celery, declared: dict[str, Any], configured: dict[str, Any], expected: dict[str, Any]
):
    app.conf.update(configured)
    assert spec(app, **declared).options == OPTIONS | expected


def test_an_unknown_choice_for_lost_workers_names_the_task(app: Celery):
    with pytest.raises(TaskTypeError, match=r"proj\.tasks\.job: on_worker_lost is 'ignore'"):
        spec(app, on_worker_lost="ignore")


def _by_name(name: str, args: Any, kwargs: Any, options: Any, **_: Any) -> dict[str, str] | None:
    return {"queue": "routed"} if name.startswith("proj.") else None


def _insisting(name: str, args: Any, kwargs: dict[str, Any], options: Any, **_: Any) -> str:
    return str(kwargs["region"])


@pytest.mark.parametrize(
    ("declared", "routes", "expected"),
    [
        ({}, None, "default"),
        ({"queue": "own"}, None, "own"),
        ({}, {"proj.tasks.job": {"queue": "routed"}}, "routed"),
        ({}, {"proj.tasks.*": "routed"}, "routed"),
        ({}, ([("other.*", "never"), ("proj.*", {"queue": "routed"})],), "routed"),
        ({}, (_by_name,), "routed"),
        ({}, {"other.*": {"queue": "never"}}, "default"),
        ({}, {"proj.*": {"priority": 3}}, "default"),
        ({"queue": "own"}, {"proj.*": {"queue": "routed"}}, "own"),
    ],
)
def test_the_queue_is_the_one_that_celery_would_send_to(
    app: Celery, declared: dict[str, Any], routes: Any, expected: str
):
    app.conf.task_routes = routes
    assert spec(app, **declared).queue == expected
    if expected != "default":  # Celery spells its default by leaving the routing key to the queue
        assert _sent_to(app) == expected


def _sent_to(app: Celery) -> str:
    seen: list[str] = []

    def note(routing_key: str, **_: Any) -> None:
        seen.append(routing_key)

    signals.before_task_publish.connect(note)
    try:
        app.tasks["proj.tasks.job"].apply_async()
    finally:
        signals.before_task_publish.disconnect(note)
    return seen[0]


@pytest.mark.parametrize(("declared", "expected"), [({}, "default"), ({"queue": "own"}, "own")])
def test_a_router_that_fails_without_arguments_is_passed_over(app: Celery, declared: dict[str, Any], expected: str):
    app.conf.task_routes = (_insisting,)
    assert spec(app, **declared).queue == expected


def test_looking_at_the_routes_declares_no_queue(app: Celery):
    app.conf.task_routes = {"proj.*": {"queue": "routed"}}
    assert spec(app).queue == "routed"
    assert list(app.amqp.queues) == ["default"]
