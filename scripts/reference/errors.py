"""errors.md: every error code of the API, from the error tree, and the error types that a task can end with."""

from __future__ import annotations

from collections.abc import Iterator

from clients.celery.example_tasks import errors as example_errors
from ledgerq_api.answers import errors as api_errors
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.task_errors import TaskError
from reference.sources import is_mentioned
from reference.tables import first_line, table

_INTRODUCTION = """# Errors

## Answers of the API

Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail` (for people: what was wrong,
where, what to do), `instance` and a stable `code`. Some have further members: `errors` (each with `detail` and a JSON
`pointer` into the body, or the name of a query `parameter`), `suggestions` (near matches), `request_id` (also in the header
`X-Request-ID`). Where *again* says yes the same request may succeed later, and `Retry-After` says when to try.
"""

_TASKS = """## Errors of tasks

A task that ends as FAILURE has `error`: `{type, message, traceback, retryable}`. `type` is the name of the exception that
the task raised, or one of these, which LedgerQ itself writes:
"""

_EXAMPLES = "The example tasks raise these:\n"


def page() -> str:
    """The whole page."""
    codes = table(("code", "status", "again", "meaning"), _codes())
    written = table(("type", "meaning"), ((f"`{kind}`", kind.meaning) for kind in TaskError))
    examples = table(("type", "meaning"), _example_types())
    return (_INTRODUCTION + codes + _TASKS + written + _EXAMPLES + examples).rstrip("\n") + "\n"


def tree(error: type[LedgerQError] = LedgerQError) -> Iterator[type[LedgerQError]]:
    """All errors from ``error`` downwards."""
    assert api_errors  # imported so that its classes are in the tree
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


def _codes() -> Iterator[tuple[str, ...]]:
    answered = [error for error in tree() if error is not LedgerQError]  # the root is never raised itself
    for error in sorted(answered, key=lambda error: (error.status, error.code)):
        again = "yes" if error.retryable else "no"
        meaning = first_line(error.__doc__)
        if not is_mentioned(error.__name__):
            meaning += " *(Reserved: no call answers it yet.)*"
        yield f"`{error.code}`", str(error.status), again, meaning


def _example_types() -> Iterator[tuple[str, ...]]:
    for name, kind in vars(example_errors).items():
        if isinstance(kind, type) and issubclass(kind, example_errors.ExampleTaskError) and not kind.__subclasses__():
            yield f"`{name}`", first_line(kind.__doc__)
