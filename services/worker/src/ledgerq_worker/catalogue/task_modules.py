"""Importing the modules that define tasks: the users', those of installed packages, and the examples."""

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ledgerq_shared.languages import Said, SaidError, say
from ledgerq_worker.settings import split_names

EXAMPLES = "clients.celery.example_tasks"
ENTRY_POINTS = "ledgerq.tasks"


class TaskModuleError(SaidError):
    """A task module could not be imported; the text is one line that says which module and why."""


def module_names(setting: str) -> list[str]:
    """The names in a comma-separated setting, without blanks and repetitions, in their order."""
    return list(dict.fromkeys(split_names(setting)))


def load_task_modules(names: Iterable[str], *, examples: bool = True) -> list[str]:
    """Import the examples, then the entry points of the group `ledgerq.tasks`, then the modules `names`.

    The current directory becomes importable, as it is for `celery` and `python -m`. Returns the names of what
    was imported, in order. Changes `sys.path` and `sys.modules`.

    Raises:
        TaskModuleError: a name is not that of a module, there is no such module, or it fails while it is imported.
    """
    loaded = [_imported(EXAMPLES, say("the example tasks"))] if examples else []
    make_importable(Path.cwd())
    installed = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value))
    loaded += [_loaded(entry_point) for entry_point in installed]
    loaded += [_imported(_checked(name), "LEDGERQ_TASK_MODULES") for name in names]
    return list(dict.fromkeys(loaded))


def make_importable(folder: Path) -> None:
    """Put `folder` on `sys.path`, before installed packages and after Python's own modules: a file `email.py` in it
    must not hide what every process needs.

    Its own `clients/celery/`, where users may keep their tasks, joins the shipped package of that name
    instead of hiding it or being hidden.
    """
    importlib.invalidate_caches()
    if str(folder) not in sys.path:
        standard = sysconfig.get_paths()["stdlib"]
        pythons_own = [at for at, entry in enumerate(sys.path) if entry in (standard, f"{standard}/lib-dynload")]
        sys.path.insert(pythons_own[-1] + 1 if pythons_own else 0, str(folder))
    for package in ("clients", "clients.celery"):
        own = str(folder.joinpath(*package.split(".")))
        portions = importlib.import_module(package).__path__
        if Path(own).is_dir() and own not in portions:
            portions.append(own)


def _checked(name: str) -> str:
    if name.endswith(".py") or "/" in name:
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        raise TaskModuleError(
            "LEDGERQ_TASK_MODULES: {name!r} is a file; name the module: {module}", name=name, module=module
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise TaskModuleError("LEDGERQ_TASK_MODULES: {name!r} cannot be a module's name, such as proj.tasks", name=name)
    return name


def _loaded(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist.name if entry_point.dist else say("an unknown package")
    asked_by = say("entry point {name!r} of {distribution}", name=entry_point.name, distribution=distribution)
    return _imported(entry_point.module, asked_by)


def _imported(module: str, asked_by: str) -> str:
    _check_not_hidden(module, asked_by)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the module's own code raises
        raise TaskModuleError("{asked_by}: {reason}", asked_by=asked_by, reason=_reason(module, error)) from error
    return module


def _check_not_hidden(module: str, asked_by: str) -> None:
    """Refuse a module of the current folder whose name is that of one of Python's, or of one that we have imported."""
    name = module.partition(".")[0]
    there = next((path for path in (Path(f"{name}.py"), Path(name, "__init__.py")) if path.is_file()), None)
    if there is None or name == "clients":  # whose parts are put together
        return
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec
        return
    if found is not None and found.origin is not None and not there.samefile(found.origin):
        raise TaskModuleError(
            "{asked_by}: {there} is hidden by {origin}: rename your file",
            asked_by=asked_by,
            there=there.resolve(),
            origin=found.origin,
        )


def _reason(module: str, error: BaseException) -> Said:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return say(
            "there is no module {module!r} in {folder} or among the installed packages",
            module=module,
            folder=Path.cwd(),
        )
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return say("importing {module!r} failed: {what}{place}", module=module, what=what, place=_place(error))


def _place(error: BaseException) -> Said:
    """The place in the user's code where the error happened; empty if Python's importer itself failed."""
    if isinstance(error, SyntaxError):
        return say("")  # the error's text has the file and the line
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_user_code(frame.filename)]
    if not frames:
        return say("")
    return say(" ({file}, line {line})", file=frames[-1].filename, line=frames[-1].lineno)


def _is_user_code(filename: str) -> bool:
    return not filename.startswith("<") and filename not in (__file__, importlib.__file__)
