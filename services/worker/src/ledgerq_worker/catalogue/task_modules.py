"""Importing the modules that define tasks: the users', those of installed packages, and the examples."""

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ledgerq_worker.settings import split_names

EXAMPLES = "clients.celery.example_tasks"
ENTRY_POINTS = "ledgerq.tasks"


class TaskModuleError(Exception):
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
    loaded = [_imported(EXAMPLES, "the example tasks")] if examples else []
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
        raise TaskModuleError(f"LEDGERQ_TASK_MODULES: {name!r} is a file; name the module: {module}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise TaskModuleError(f"LEDGERQ_TASK_MODULES: {name!r} cannot be a module's name, such as proj.tasks")
    return name


def _loaded(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist.name if entry_point.dist else "an unknown package"
    return _imported(entry_point.module, f"entry point {entry_point.name!r} of {distribution}")


def _imported(module: str, asked_by: str) -> str:
    _check_not_hidden(module, asked_by)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the module's own code raises
        raise TaskModuleError(f"{asked_by}: {_reason(module, error)}") from error
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
        raise TaskModuleError(f"{asked_by}: {there.resolve()} is hidden by {found.origin}: rename your file")


def _reason(module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {module!r} in {Path.cwd()} or among the installed packages"
    what = " ".join(str(error).split())
    return f"importing {module!r} failed: {type(error).__name__}: {what}{_place(error)}"


def _place(error: BaseException) -> str:
    """The place in the user's code where the error happened; empty if Python's importer itself failed."""
    if isinstance(error, SyntaxError):
        return ""  # the error's text has the file and the line
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_user_code(frame.filename)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _is_user_code(filename: str) -> bool:
    return not filename.startswith("<") and filename not in (__file__, importlib.__file__)
