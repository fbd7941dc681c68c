"""Names that users' code and clients rely on. A change here breaks somebody: it needs a changelog entry."""

from __future__ import annotations

import importlib
import inspect

import pytest
from celery import Task

from ledgerq_shared import errors
from ledgerq_shared.events import Event
from ledgerq_shared.states import State

PUBLIC = {
    "clients.celery.base_tasks": ["DatabaseAwareTask", "TaskCancelled"],
    "clients.celery.example_tasks": ["process_document"],
}

CODES = {
    "DuplicateTask": ("duplicate_task", 409, False),
    "HostNotAllowed": ("host_not_allowed", 403, False),
    "HeadTooLarge": ("head_too_large", 431, False),
    "IdempotencyKeyReused": ("idempotency_key_reused", 422, False),
    "InvalidParameters": ("invalid_parameters", 422, False),
    "InvalidRequest": ("invalid_request", 422, False),
    "LedgerFull": ("ledger_full", 503, True),
    "LedgerUnavailable": ("ledger_unavailable", 503, True),
    "NoTaskTypes": ("no_task_types", 503, True),
    "NotHttp": ("not_http", 400, False),
    "OriginNotAllowed": ("origin_not_allowed", 403, False),
    "OutcomeUnknown": ("outcome_unknown", 503, True),
    "QueueNotFound": ("queue_not_found", 404, False),
    "RequestTimedOut": ("request_timed_out", 408, True),
    "ScopeMissing": ("scope_missing", 403, False),
    "ServerBusy": ("server_busy", 503, True),
    "TargetTooLong": ("target_too_long", 414, False),
    "TaskIsFinal": ("task_is_final", 409, False),
    "TaskIsNotFinal": ("task_is_not_final", 409, False),
    "TaskNotFound": ("task_not_found", 404, False),
    "TaskTypeNotFound": ("task_type_not_found", 404, False),
    "Unavailable": ("unavailable", 503, True),
    "UnknownTaskType": ("unknown_task_type", 422, False),
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_there_and_documented(module: str):
    found = importlib.import_module(module)
    for name in PUBLIC[module]:
        public = getattr(found, name)
        if inspect.isfunction(public) or inspect.isclass(public):
            assert inspect.getdoc(public), f"{module}.{name} has no doc string"


def test_the_users_base_task_has_the_promised_methods():
    from clients.celery.base_tasks import DatabaseAwareTask

    assert issubclass(DatabaseAwareTask, Task)
    methods = {name for name in vars(DatabaseAwareTask) if not name.startswith("_") and name != "abstract"}
    assert methods >= {"apply_async", "is_cancelled", "log", "on_worker_lost", "raise_if_cancelled", "update_progress"}
    assert str(inspect.signature(DatabaseAwareTask.update_progress)).startswith("(self, progress: ")


@pytest.mark.parametrize("name", sorted(CODES))
def test_error_codes_are_stable(name: str):
    error = getattr(errors, name)
    assert (error.code, error.status, error.retryable) == CODES[name]


def test_every_error_of_the_shared_tree_has_a_code_and_a_sentence():
    def below(kind: type[errors.LedgerQError]) -> list[type[errors.LedgerQError]]:
        return [one for child in kind.__subclasses__() for one in (child, *below(child))]

    ours = [kind for kind in below(errors.LedgerQError) if kind.__module__ == errors.__name__]
    assert {kind.__name__ for kind in ours} == set(CODES)
    codes = [kind.code for kind in ours]
    assert len(set(codes)) == len(codes)
    for kind in ours:
        assert kind().detail.endswith(".")
        assert kind("this happened").detail == "this happened"
        assert kind("x", field="a").extra == {"field": "a"}


def test_the_six_words():
    assert [str(state) for state in State] == ["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]


def test_the_fields_of_an_event():
    assert Event._fields == ("seq", "at", "kind", "attempt", "actor", "data")
