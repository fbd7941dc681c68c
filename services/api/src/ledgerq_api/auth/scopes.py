"""What a key may be allowed to do, and what each call needs. A call that is in no table needs ``admin``."""

from __future__ import annotations

import re
from enum import StrEnum

from ledgerq_api import docs_page, guide


class KeyScope(StrEnum):
    """A permission of an API key."""

    READ = "tasks:read"
    SUBMIT = "tasks:submit"
    CONTROL = "tasks:control"
    #: Includes all others.
    ADMIN = "admin"


#: Anybody may call these. They say nothing about tasks, and orchestrators and people without a key need them.
OPEN = frozenset(
    {
        "/",
        "/livez",
        "/readyz",
        "/docs",
        docs_page.ELSEWHERE,
        *(f"/docs/{name}" for name in docs_page.FILES),
        "/openapi.json",
        *guide.ROUTES,
    }
)

#: Call → scope. HEAD needs what GET needs.
NEEDS: dict[tuple[str, str], KeyScope] = {
    ("POST", "/tasks/submit"): KeyScope.SUBMIT,
    ("POST", "/tasks/submit/batch"): KeyScope.SUBMIT,
    ("POST", "/tasks/{task_id}/rerun"): KeyScope.SUBMIT,
    ("GET", "/tasks"): KeyScope.READ,
    ("GET", "/tasks/"): KeyScope.READ,
    ("GET", "/tasks/{task_id}"): KeyScope.READ,
    ("GET", "/tasks/{task_id}/status"): KeyScope.READ,
    ("GET", "/tasks/{task_id}/events"): KeyScope.READ,
    ("GET", "/tasks/{task_id}/stream"): KeyScope.READ,
    ("GET", "/tasks/{task_id}/explain"): KeyScope.READ,
    ("POST", "/tasks/{task_id}/cancel"): KeyScope.CONTROL,
    ("POST", "/tasks/{task_id}/retry"): KeyScope.CONTROL,
    ("GET", "/task-types"): KeyScope.READ,
    ("GET", "/task-types/{name}"): KeyScope.READ,
    ("GET", "/queues"): KeyScope.READ,
    ("PUT", "/queues/{name}"): KeyScope.CONTROL,
    ("POST", "/queues/{name}/pause"): KeyScope.CONTROL,
    ("POST", "/queues/{name}/resume"): KeyScope.CONTROL,
    ("GET", "/workers"): KeyScope.READ,
    ("GET", "/scaling"): KeyScope.READ,
    ("GET", "/health"): KeyScope.READ,
    ("GET", "/metrics"): KeyScope.READ,
}


def needed_for(method: str, path: str) -> KeyScope | None:
    """The scope that a call of ``path`` needs; None: it needs none. An unknown call needs :attr:`KeyScope.ADMIN`."""
    if path in OPEN or guide.is_page(path):
        return None
    return known_need(method, path) or KeyScope.ADMIN


def known_need(method: str, path: str) -> KeyScope | None:
    """The scope that the table has for a call of ``path``; None: the table has no such call."""
    if method == "HEAD":
        method = "GET"
    found = NEEDS.get((method, path))
    if found is None:
        # All templates have one parameter, as their second segment. Names of queues and task types may have slashes in
        # them.
        _, first, *rest = path.split("/", 2 if path.startswith(_WITH_SLASHES) else 3)
        if rest and first in _NAMES:
            name, _, last = rest[0].rpartition("/")
            found = _BY_SHAPE.get((method, first, last)) if name else None
            rest = rest[:1]
        if found is None and rest and rest[0]:
            found = _BY_SHAPE.get((method, first, rest[1] if len(rest) > 1 else None))
    return found


def template_of(path: str) -> str | None:
    """The template of a call that needs a scope, such as ``/tasks/{task_id}``; None: the table has no such path."""
    if path in _PATHS:
        return path
    return next((template for pattern, template in _PATTERNS if pattern.fullmatch(path)), None)


_NAMES = ("queues", "task-types")
_WITH_SLASHES = tuple(f"/{first}/" for first in _NAMES)


def _shape(path: str) -> tuple[str, str | None]:
    first, parameter, *rest = path.removeprefix("/").split("/", 2)
    assert parameter.startswith("{"), f"{path}: a parameter anywhere but in second place is not looked for"
    assert "{" not in first + "".join(rest), f"{path}: a second parameter is not looked for"
    return first, rest[0] if rest else None


_BY_SHAPE = {(method, *_shape(path)): scope for (method, path), scope in NEEDS.items() if "{" in path}

_PATHS = {path for _, path in NEEDS}


def _pattern(template: str) -> re.Pattern[str]:
    before, _, rest = template.partition("{")
    segment = ".+" if template.startswith(_WITH_SLASHES) else "[^/]+"
    return re.compile(re.escape(before) + segment + re.escape(rest.partition("}")[2]), re.DOTALL)


#: The longest first, because a name may have slashes in it.
_PATTERNS = [(_pattern(path), path) for path in sorted(_PATHS, key=len, reverse=True) if "{" in path]
