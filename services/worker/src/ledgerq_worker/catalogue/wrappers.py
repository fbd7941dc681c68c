"""How decorators change a task's parameters: which layer of a function decides what it may be called with.

If a decorator passes everything on unchanged, the parameters are those that the author wrote. If a decorator may do
more, such as supply a session, it decides itself what it takes; the parameters of the function behind it are then only
a description and no condition.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.app.task import Task as CeleryTask

#: Packages whose layers are known to pass everything on: Celery's retries and models, our own marks.
_KNOWN = ("celery", "ledgerq_worker")


def deciding_layer(run: Callable[..., Any]) -> Callable[..., Any]:
    """The outermost layer of ``run`` that is not known to pass its arguments on unchanged; if there is none, the
    function itself.
    """
    layer = run
    while True:
        function = layer.__func__ if isinstance(layer, types.MethodType) else layer
        inner = getattr(function, "__wrapped__", None)
        if inner is None or hasattr(function, "__signature__") or not _gives_all_on(layer, inner):
            return layer
        if isinstance(layer, types.MethodType) and not isinstance(inner, types.MethodType):
            inner = types.MethodType(inner, layer.__self__)
        layer = inner


def is_wrapper(layer: Callable[..., Any]) -> bool:
    """Whether there is a function behind this layer that the layer's own signature does not show."""
    function = layer.__func__ if isinstance(layer, types.MethodType) else layer
    return hasattr(function, "__wrapped__") and not hasattr(function, "__signature__")


def has_own_call(task: Task) -> bool:
    """Whether the task's class, or one between it and Celery's own, defines ``__call__``. (Celery's worker gives the
    base class of all tasks a ``__call__`` of its own.)
    """
    classes = task.__class__.__mro__
    return any("__call__" in vars(one) for one in classes[: classes.index(CeleryTask)])


def calls_as_given(call: types.MethodType) -> bool:
    """Whether a task's own ``__call__`` passes all its arguments on, to its ``run`` or to the ``__call__`` before
    it.
    """

    def is_known(callee: ast.expr) -> bool:
        return isinstance(callee, ast.Attribute) and callee.attr in ("__call__", "run")

    return _is_passed_on(call.__func__, is_known, own=1)


def _gives_all_on(layer: Callable[..., Any], inner: Callable[..., Any]) -> bool:
    function: Any = layer.__func__ if isinstance(layer, types.MethodType) else layer
    if getattr(function, "__globals__", {}).get("__name__", "").partition(".")[0] in _KNOWN:
        return True
    if not isinstance(function, types.FunctionType):
        return False
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))

    def is_inner(callee: ast.expr) -> bool:
        try:
            return isinstance(callee, ast.Name) and callee.id in cells and cells[callee.id].cell_contents is inner
        except ValueError:  # an empty cell
            return False

    return _is_passed_on(function, is_inner, first=int(isinstance(layer, types.MethodType)))


def _is_passed_on(function: Any, is_known: Callable[[ast.expr], bool], *, own: int = 0, first: int = 0) -> bool:
    """Whether ``function`` takes ``*args, **kwargs`` and uses them, unchanged, only to call functions that are known.

    Args:
        own: parameters of its own that come before these.
        first: parameters that may come before these if it passes them on as well (a bound task).
    """
    try:
        definition: Any = ast.parse(textwrap.dedent(inspect.getsource(function.__code__))).body[0]
        arguments: ast.arguments = definition.args
    except (OSError, TypeError, SyntaxError, IndexError, AttributeError):
        return False  # there is no source, or it is that of a lambda
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if arguments.vararg is None or arguments.kwarg is None or arguments.kwonlyargs:
        return False
    if not own <= len(named) <= own + first:
        return False
    args, kwargs = arguments.vararg.arg, arguments.kwarg.arg
    nodes = [node for statement in definition.body for node in ast.walk(statement)]
    uses = sum(isinstance(node, ast.Name) and node.id in (args, kwargs) for node in nodes)
    wanted = [*named[own:], f"*{args}", f"**{kwargs}"]
    calls = sum(isinstance(node, ast.Call) and is_known(node.func) and _given(node) == wanted for node in nodes)
    return calls > 0 and uses == 2 * calls


def _given(call: ast.Call) -> list[str]:
    return [ast.unparse(one) for one in call.args] + [
        f"**{ast.unparse(one.value)}" if one.arg is None else f"{one.arg}=" for one in call.keywords
    ]
