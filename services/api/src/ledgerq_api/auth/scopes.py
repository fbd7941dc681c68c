"""What each call needs. A call that is in no table needs ``admin``."""

from __future__ import annotations

from ledgerq_api import docs_page, guide
from ledgerq_api.auth.key_scopes import KeyScope

#: What anybody may call, as templates: it says nothing about tasks, and orchestrators and people without a key need it.
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
    if is_open(path):
        return None
    return known_need(method, path) or KeyScope.ADMIN


def is_open(path: str) -> bool:
    """Whether anybody may call ``path``, without a key."""
    return path in OPEN or guide.is_page(path)


def known_need(method: str, path: str) -> KeyScope | None:
    """The scope that the table has for a call of ``path``; None: the table has no such call."""
    if method == "HEAD":
        method = "GET"
    found = NEEDS.get((method, path))
    if found is None:
        for shape in _shapes(path):
            found = _BY_SHAPE.get((method, shape))
            if found is not None:
                break
    return found


def template_of(path: str) -> str | None:
    """The template of a call that needs a scope, such as ``/tasks/{task_id}``; None: the table has no such path."""
    if path in _PATHS:
        return path
    return next((_TEMPLATES[shape] for shape in _shapes(path) if shape in _TEMPLATES), None)


#: What stands before and after a path's parameter, which is the second segment; None: nothing stands after it.
_Shape = tuple[str, str | None]

#: The first segments of paths whose parameter is a name that may have slashes in it.
_NAMES = ("queues", "task-types")
_WITH_SLASHES = tuple(f"/{first}/" for first in _NAMES)


def _shapes(path: str) -> tuple[_Shape, ...]:
    """The shapes that ``path`` may have, the one to prefer first."""
    if path.startswith(_WITH_SLASHES):
        _, first, rest = path.split("/", 2)
        name, _, last = rest.rpartition("/")
        return ((first, last), (first, None)) if name else ((first, None),) if rest else ()
    _, first, *more = path.split("/", 3)
    if not more or not more[0]:
        return ()
    return ((first, more[1] if len(more) > 1 else None),)


def _shape(template: str) -> _Shape:
    first, parameter, *rest = template.removeprefix("/").split("/", 2)
    assert parameter.startswith("{"), f"{template}: a parameter anywhere but in second place is not looked for"
    assert "{" not in first + "".join(rest), f"{template}: a second parameter is not looked for"
    return first, rest[0] if rest else None


_PATHS = {path for _, path in NEEDS}
_BY_SHAPE = {(method, _shape(path)): scope for (method, path), scope in NEEDS.items() if "{" in path}
_TEMPLATES = {_shape(path): path for path in _PATHS if "{" in path}
